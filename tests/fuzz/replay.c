/* SPDX-License-Identifier: MIT */
/*
 * replay: main() of a fuzz target without a fuzzer: runs it with the bytes of each file that is
 * named, or stands in a directory that is named. So what was once found is tried by every build.
 *
 * The name is printed before the run: where it ends early, the last one is the culprit. The last
 * line is "N inputs". Fails where there are none.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

/* In a block of just its size. The file's bytes. */
static uint8_t *read_file(const char *path, size_t *n)
{
	struct stat status;
	FILE *file = fopen(path, "re");

	if (file == NULL || fstat(fileno(file), &status) != 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	uint8_t *bytes = malloc((size_t)status.st_size + (status.st_size == 0));
	FUZZ_CHECK(bytes != NULL);
	*n = fread(bytes, 1, (size_t)status.st_size, file);
	fclose(file);
	return bytes;
}

static int is_shown(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Returns how many inputs were run. */
static unsigned run(const char *path)
{
	struct stat status;
	struct dirent **names = NULL;
	unsigned count = 0;

	if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
		int n = scandir(path, &names, is_shown, alphasort);
		for (int i = 0; i < n; i++) {
			char below[4096];
			snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name);
			count += run(below);
			free(names[i]);
		}
		free(names);
		return count;
	}
	size_t n;
	printf("%s\n", path);
	fflush(stdout);
	uint8_t *bytes = read_file(path, &n);
	(void)LLVMFuzzerTestOneInput(bytes, n);
	free(bytes);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	for (int i = 1; i < argc; i++)
		count += run(argv[i]);
	printf("%u inputs\n", count);
	return count > 0 ? 0 : 2;
}
