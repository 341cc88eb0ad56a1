/* SPDX-License-Identifier: MIT */
/*
 * The small parsers of a directory's files: the file `log`, and the first page of a segment file.
 *
 * What is taken is, to the byte, what would be written; what is refused is refused in a sentence;
 * the
 * header of a file is believed only where it fits the file.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "fuzz.h"
#include "log/charter.h"
#include "log/header.h"
#include "log/store.h"

enum { PAGE = 4096, SMALL = SEGMENT_SIZE_MIN };

static const uint64_t log_key = 0x0f1e2d3c4b5a6978;

static void check_sentence(const char *text, size_t room)
{
	size_t n = strnlen(text, room);

	FUZZ_CHECK(n > 0 && n < room - 1);
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECKF(text[i] >= ' ' && text[i] <= '~', "%s", text);
}

/* ---- the file `log` ---- */

static void check_charter(const char *text)
{
	char again[CHARTER_MAX], fault[CHARTER_FAULT_MAX];
	struct store_log log;

	if (charter_parse(text, &log) != 0) {
		check_sentence(charter_fault(text, fault), CHARTER_FAULT_MAX);
		(void)charter_is_foreign(text);
		return;
	}
	size_t n = charter_print(&log, again);
	FUZZ_CHECK(n == strlen(text) && memcmp(text, again, n) == 0);
	FUZZ_CHECK(log.end <= STORE_CLEAN && strlen(log.boot) < sizeof log.boot);
	FUZZ_CHECK(!charter_is_foreign(text));
}

/* The text with the last line that it should have: so that what stands before it is looked at. */
static void check_forged(const char *text)
{
	char all[2048];
	size_t n = strlen(text) < 1000 ? strlen(text) : 1000;

	memcpy(all, text, n);
	snprintf(all + n, sizeof all - n, "check %016" PRIx64 "\n", hash64(text, n, 0));
	check_charter(all);
}

/* What is printed is read again as what it was. */
static void check_printed(struct input input)
{
	struct store_log log = {.end = (enum store_end)(input_byte(&input) % 3)}, again;
	char text[CHARTER_MAX + 1];

	for (int i = 0; i < 8; i++) {
		log.key = log.key << 8 | input_byte(&input);
		log.head = log.head << 8 | input_byte(&input);
		log.identity = log.identity << 8 | input_byte(&input);
	}
	unsigned size = input_byte(&input) % STORE_BOOT_MAX;
	for (unsigned i = 0; i < size; i++)
		log.boot[i] = "0123456789abcdef-"[input_byte(&input) % 17];
	if (strcmp(log.boot, "-") == 0)
		log.boot[0] = '\0';
	text[charter_print(&log, text)] = '\0';
	FUZZ_CHECK(charter_parse(text, &again) == 0);
	FUZZ_CHECK(again.identity == log.identity && again.key == log.key &&
	           strcmp(again.boot, log.boot) == 0 && again.end == log.end &&
	           again.head == log.head);
}

/* ---- a segment file ---- */

static char dir[256], path[512];
static struct store *store;

static void remove_dir(void)
{
	char lock[512];

	(void)unlink(path);
	snprintf(lock, sizeof lock, "%s/lock", dir);
	(void)unlink(lock);
	(void)rmdir(dir);
}

static void open_store(void)
{
	const char *above = getenv("PSAD_FUZZ_DIR");
	char error[1024], name[STORE_NAME_MAX];

	if (above == NULL)
		above = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(dir, sizeof dir, "%s/psad-fuzz-XXXXXX", above);
	FUZZ_CHECK(mkdtemp(dir) != NULL);
	store_name(7, name);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	atexit(remove_dir);
	store = store_open(dir, error, sizeof error);
	FUZZ_CHECK(store != NULL);
	store_set_key(store, log_key);
}

#define PUT_RIGHT(part, key) ((part)->check = hash64((part), sizeof *(part)-8, (key)))

/* A header that would be taken, and then what the input makes of it. */
static size_t make_page(struct input *input, char page[PAGE])
{
	struct segment_header *header = (void *)page;
	uint8_t rights = input_byte(input);
	size_t size = SMALL;

	memset(page, 0, PAGE);
	header->constant = (struct header_constant){.max_entries = INT32_MAX,
	                                            .number = 7,
	                                            .size = SMALL,
	                                            .key = log_key,
	                                            .secret = 1ULL << 63 | 5,
	                                            .id_bound = 5000};
	header_set_constant(&header->constant);
	header_set_gap(header, 41, LOSS_LOST);
	header_set_synced(header, 44);
	header_set_synced(header, 50);
	while (input->n >= 4) {
		uint16_t at = input_short(input);
		uint8_t op = input_byte(input), value = input_byte(input);
		if (op % 4 == 3)
			size = (size_t)value << 10 | (at & 1023);
		else if (op % 4 == 2)
			memset(page + at % (PAGE - 8), value, 8);
		else
			page[at % PAGE] = (char)(op % 4 == 1 ? page[at % PAGE] ^ value : value);
	}
	if (rights & 1)
		PUT_RIGHT(&header->constant, 0);
	if (rights & 2)
		PUT_RIGHT(&header->gap, log_key);
	if (rights & 4)
		header->seal.filter_hash = hash64(page + FILTER_OFFSET, FILTER_BITS / 8, log_key);
	if (rights & 8)
		PUT_RIGHT(&header->seal, log_key);
	if (rights & 16)
		PUT_RIGHT(&header->synced[0], log_key);
	if (rights & 32)
		PUT_RIGHT(&header->synced[1], log_key);
	return size;
}

static void check_opened(const struct segment *segment, const struct segment_header *header,
                         size_t size, const char *page)
{
	const struct header_constant *constant = &header->constant;

	FUZZ_CHECK(memcmp(constant, page, sizeof *constant) == 0);
	FUZZ_CHECK(constant->check == hash64(constant, sizeof *constant - 8, 0));
	FUZZ_CHECK(memcmp(constant->magic, "psad seg", 8) == 0);
	FUZZ_CHECK(constant->byte_order == 0x0102030405060708 && constant->version == 1);
	FUZZ_CHECK(constant->number == 7 && constant->key == log_key);
	FUZZ_CHECK(constant->size == size && size >= 65536 && size <= 1 << 30 && size % 4096 == 0);
	FUZZ_CHECK(segment->size == size && segment->max_entries == constant->max_entries);
	FUZZ_CHECK(segment->file.id_bound == constant->id_bound);
	if (segment->filter != NULL)
		FUZZ_CHECK(memcmp(segment->filter, page + FILTER_OFFSET, FILTER_BITS / 8) == 0);
}

/* The parts say of themselves what they are, by a check of all their bytes. */
static void check_parts(const struct segment_header *header)
{
	const struct header_gap *gap = &header->gap;
	const struct header_seal *seal = &header->seal;
	uint64_t newest = 0, id, key = header->constant.key;
	bool is_known = false;

	FUZZ_CHECK(header_gap_is_good(gap, key) ==
	           (gap->check == hash64(gap, sizeof *gap - 8, key) && gap->loss <= 3));
	FUZZ_CHECK(header_seal_is_good(seal, key) ==
	           (seal->check == hash64(seal, sizeof *seal - 8, key) && seal->base > 0));
	for (int i = 0; i < 2; i++) {
		const struct header_synced *part = &header->synced[i];
		if (part->check != hash64(part, sizeof *part - 8, key))
			continue;
		is_known = true;
		newest = part->id > newest ? part->id : newest;
	}
	FUZZ_CHECK(header_synced(header, &id) == is_known);
	FUZZ_CHECK(!is_known || id == newest);
}

static void check_header(struct input input)
{
	_Alignas(512) char page[PAGE];
	struct segment_header header;
	char error[1024] = "";

	if (store == NULL)
		open_store();
	size_t size = make_page(&input, page);
	check_parts((const void *)page);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(pwrite(fd, page, size < PAGE ? size : PAGE, 0) >= 0);
	FUZZ_CHECK(ftruncate(fd, (off_t)size) == 0);
	close(fd);
	if (size < PAGE)
		memset(page + size, 0, PAGE - size);
	struct segment *segment = store_open_segment(store, 7, &header, error, sizeof error);
	if (segment == NULL) {
		check_sentence(error, sizeof error);
		return;
	}
	check_opened(segment, &header, size, page);
	segment_free(segment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input input = {data, n};

	switch (input_byte(&input) % 4) {
	case 0:
	case 1: {
		char *text = input_text(&input, -1);
		check_charter(text);
		check_forged(text);
		free(text);
		break;
	}
	case 2:
		check_printed(input);
		break;
	case 3:
		check_header(input);
		break;
	}
	return 0;
}
