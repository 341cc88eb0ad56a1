# psad (GNU make)
#
#   make                build/psad
#   make run            a broker with the default configuration, in the foreground
#   make check          all tests; PARTS="unit lint" runs some of: unit race fuzz lint system
#   make soak           HOURS of chaos, kills, losses of power and races; build/soak/summary.txt
#   make lint           the layout of the code, cppcheck, the rules of the house
#   make analyze        gcc -fanalyzer, clang-tidy and cppcheck over all C; minutes
#   make models         the models of the log's protocols, and faults planted in them (Spin)
#   make coverage       which branches the tests take, and whether they are enough
#   make planted        faults planted in the code, each of which the tests must find
#   make bench          psad beside a bare fan-out program, and the log alone: build/bench/results
#   make bench-peers    the same beside NATS, Redis and Mosquitto too; installs them
#   make fuzz           every parser of outside bytes, FUZZ_SECONDS each (clang)
#   make fuzz-afl       the same with AFL++
#   make install        the daemon, its units, manual and configurations: PREFIX, DESTDIR, SYSCONFDIR
#   make deb            build/psad_VERSION_amd64.deb, looked at by lintian
#   make rpm            build/psad-VERSION-1.x86_64.rpm and its source, looked at by rpmlint
#   make try-deb        the package in a throw-away Debian with a service manager of its own (root)
#   make clean
#
# FLAVOUR=asan and FLAVOUR=tsan do the same with a sanitizer, in build/asan and build/tsan,
# FLAVOUR=valgrind under valgrind.

VERSION = 0.1.0
PREFIX = /usr/local
DESTDIR =
SYSCONFDIR = /etc
UNITDIR = $(PREFIX)/lib/systemd/system
FLAVOUR = release
WITH_SYSTEMD = yes
PARTS = unit race fuzz lint system
RACE_SECONDS = 3
FUZZ_SECONDS = 60
HOURS = 1
CC = gcc
CFLAGS =
LDFLAGS =
GOALS := $(or $(MAKECMDGOALS),all)

ifneq ($(filter fuzz,$(GOALS)),)
override FLAVOUR = fuzz
CC = clang
endif
ifneq ($(filter fuzz-afl,$(GOALS)),)
override FLAVOUR = afl
CC = afl-clang-fast
endif

# What is missing is installed now (not with -n), before the libraries are looked for below.
ifneq ($(and $(filter run check soak deb rpm,$(GOALS)),$(if $(findstring n,$(firstword -$(MAKEFLAGS))),,yes)),)
$(shell packaging/deps.sh build $(if $(filter check soak,$(GOALS)),test) \
	$(if $(filter deb rpm,$(GOALS)),package) >&2)
ifneq ($(.SHELLSTATUS),0)
$(error packaging/deps.sh could not install what is missing)
endif
endif

# Flavours

OUT := $(if $(filter release,$(FLAVOUR)),build,build/$(FLAVOUR))

flavour.release = -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
link.release = -pie -Wl,-z,relro,-z,now
flavour.asan = -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
flavour.tsan = -O1 -fno-omit-frame-pointer -fsanitize=thread -Wno-tsan
# What takes a test 30 s elsewhere may take longer: threads take turns.
flavour.valgrind = -O1 -fno-omit-frame-pointer -DDEADLINE_MS=300000
# Counters of several threads; without optimisation a branch of the program is one of the source.
flavour.coverage = -O0 --coverage -fprofile-update=atomic
flavour.fuzz = $(flavour.asan) -fsanitize=fuzzer-no-link
flavour.afl = $(flavour.asan)
# Who runs a fuzz target: libFuzzer, AFL++'s driver, else the files named (tests/fuzz/replay.c).
fuzzer.fuzz = -fsanitize=fuzzer
fuzzer.afl = -fsanitize=fuzzer
ifndef flavour.$(FLAVOUR)
$(error FLAVOUR is one of release, asan, tsan, valgrind, coverage)
endif

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wundef -Wformat=2

# Libraries: base, log and wire know only the first.

CORE_PACKAGES = ck libxxhash
PACKAGES = $(CORE_PACKAGES) libevent_core inih
ifeq ($(WITH_SYSTEMD),yes)
PACKAGES += libsystemd
endif

ifneq ($(filter-out clean,$(GOALS)),)
PACKAGE_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
ifneq ($(.SHELLSTATUS),0)
$(error a library is missing; packaging/deps.sh build installs it)
endif
LIBRARIES := $(shell for p in $(PACKAGES); do echo "$$p $$(pkg-config --modversion $$p)"; done)
CORE_LIBS := $(shell pkg-config --libs $(CORE_PACKAGES))
LIBS := $(shell pkg-config --libs $(PACKAGES))
endif

COMPILE = $(CC) -std=gnu11 -D_GNU_SOURCE -Isrc -DPSAD_VERSION='"$(VERSION)"' \
	-DPSAD_LIBRARIES='"$(LIBRARIES)"' \
	-DWITH_SYSTEMD=$(if $(filter yes,$(WITH_SYSTEMD)),1,0) $(WARNINGS) -g -pthread \
	$(flavour.$(FLAVOUR)) $(PACKAGE_CFLAGS) $(CFLAGS)
LINK = $(CC) -pthread $(flavour.$(FLAVOUR)) $(link.$(FLAVOUR)) -Wl,--as-needed $(LDFLAGS)

# Everything is compiled anew when the commands have changed since the last time.
ifneq ($(file <$(OUT)/flags),$(COMPILE) $(LINK))
$(shell rm -f $(OUT)/flags)
endif

# Files

objects = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
programs = $(patsubst %.c,$(OUT)/%,$(wildcard $(1)))

CORE_SOURCES := $(wildcard src/base/*.c src/log/*.c src/wire/*.c)
SOURCES := $(wildcard src/*.c src/*/*.c)
UNIT := $(call programs,tests/unit/test_*.c)
RACE := $(call programs,tests/race/race_*.c)
FUZZ := $(call programs,tests/fuzz/fuzz_*.c)
# None where their compiler is not here.
FUZZ_PROGRAMS := $(if $(fuzzer.$(FLAVOUR)),$(if $(shell command -v $(CC)),$(FUZZ)))
LOAD := $(OUT)/bench/load
BENCH := $(call programs,bench/*.c) $(LOAD)
C_FILES := $(wildcard src/*.[ch] src/*/*.[ch] tests/*/*.[ch] tests/race/*/*.[ch] bench/*.[ch] \
	bench/*/*.[ch])
# The sources as they are compiled, for tools that only look at them.
ANALYZE = tests/lint/analyze --flags '-DPSAD_VERSION=\"$(VERSION)\" -DPSAD_LIBRARIES=\"\" \
	-DWITH_SYSTEMD=$(if $(filter yes,$(WITH_SYSTEMD)),1,0) $(PACKAGE_CFLAGS)'
# Programs that use nothing above base, log and wire: they are linked without the rest.
CORE_PROGRAMS := $(patsubst %.c,$(OUT)/%,$(shell grep -LE '^.include "(net|ops|server)' \
	$(wildcard tests/*/*.c bench/*.c) /dev/null))

.PHONY: all run check soak models planted lint analyze coverage coverage-build bench bench-peers \
	fuzz fuzz-afl install deb rpm try-deb clean
.PRECIOUS: $(OUT)/obj/%.o
.DELETE_ON_ERROR:

all: $(OUT)/psad

$(OUT)/psad: $(OUT)/obj/src/main.o $(OUT)/libpsad.a
	$(LINK) -o $@ $^ $(LIBS)

$(OUT)/libpsad.a: $(call objects,$(filter-out src/main.c,$(SOURCES)))
$(OUT)/libcore.a: $(call objects,$(CORE_SOURCES))
$(OUT)/%.a:
	rm -f $@
	ar qcsT $@ $^

$(OUT)/flags:
	@$(shell mkdir -p $(@D))$(file >$@,$(COMPILE) $(LINK))touch $@

$(OUT)/obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(COMPILE) -MMD -MP -c -o $@ $<

# The benchmark of the log has several files.
$(OUT)/bench/bench_log: $(call objects,$(wildcard bench/log/*.c))

# A test that replaces functions at link time says so: /* LINK: -Wl,--wrap=name */
$(UNIT) $(RACE) $(FUZZ) $(filter-out $(LOAD),$(BENCH)): $(OUT)/%: $(OUT)/obj/%.o \
		$(OUT)/libcore.a $(OUT)/libpsad.a
	@mkdir -p $(@D)
	$(LINK) $(if $(filter $(FUZZ),$@),$(fuzzer.$(FLAVOUR))) -o $@ $(filter %.o,$^) \
		$(shell sed -n 's,^/\* LINK: \(.*\) \*/$$,\1,p' $*.c) \
		$(if $(filter $(CORE_PROGRAMS),$@),$(OUT)/libcore.a $(CORE_LIBS),$(OUT)/libpsad.a $(LIBS)) \
		$(if $(filter $(UNIT),$@),-lcmocka)

ifeq ($(fuzzer.$(FLAVOUR)),)
$(FUZZ): $(OUT)/obj/tests/fuzz/replay.o
endif

# The daemon with the time taken around two of its calls: bench/timed/timed.c.
$(OUT)/bench/psad-timed: $(OUT)/obj/src/main.o $(OUT)/obj/bench/timed/timed.o $(OUT)/libpsad.a
	@mkdir -p $(@D)
	$(LINK) -Wl,--wrap=log_append,--wrap=wake_ring -o $@ $^ $(LIBS)

# The load generator has several files; it knows of the core only times, numbers and frames.
$(LOAD): $(call objects,$(wildcard bench/load/*.c)) $(OUT)/libcore.a
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(CORE_LIBS)

run: $(OUT)/psad
	@echo 'In another terminal, subscribe:  echo SUB news | nc localhost 9853'
	@echo 'and in a third one, publish:     printf "PUB news hello\nQUIT\n" | nc localhost 9853'
	@echo 'Ctrl-C stops the broker.'
	@exec $(OUT)/psad

check: $(OUT)/psad $(UNIT) $(RACE) $(FUZZ)
	@tests/run --flavour $(FLAVOUR) --out $(OUT) --race-seconds $(RACE_SECONDS) $(PARTS)

# A fraction of an hour will do to try it out: HOURS=0.03.
soak: $(OUT)/psad $(RACE)
	@tests/soak --hours $(HOURS) --psad $(OUT)/psad --race $(OUT)/tests/race --out $(OUT)/soak

# What is not here is not asked; packaging/deps.sh lint installs it.
lint:
	@bad=0; has() { command -v $$1 >/dev/null || { echo "$$1 is not here"; false; }; }; \
	if has clang-format; then for file in $(C_FILES); do \
		clang-format --dry-run -Werror --ferror-limit=1 $$file || bad=1; done; fi; \
	if has cppcheck; then $(ANALYZE) --only cppcheck $(SOURCES) || bad=1; fi; \
	if has shellcheck; then shellcheck packaging/deps.sh packaging/build \
		packaging/debian/p* .ci/run || bad=1; fi; \
	tests/run --out $(OUT) lint || bad=1; exit $$bad

# What tools find without running anything: gcc -fanalyzer, clang-tidy, cppcheck. .clang-tidy and the
# table in tests/lint/analyze say what they are not asked, and why.
analyze:
	@$(ANALYZE)

# Runs the tests with counters in all that is compiled, and requires that they take the branches of
# the parser, the log and recovery: tests/coverage. COVERAGE_PARTS="unit race fuzz" leaves daemons
# out; of the system tests those are run that are about the log. Not test_failing.py: the calls that
# it makes fail are those of the counters too, which die of it.
COVERAGE_PARTS = unit race fuzz system
COVERAGE_SYSTEM = test_durable*.py test_cold.py
coverage:
	+$(MAKE) --no-print-directory FLAVOUR=coverage coverage-build
	find build/coverage -name '*.gcda' -delete
	@bad=0; tests/run --flavour coverage --out build/coverage --race-seconds 1 \
		--system '$(COVERAGE_SYSTEM)' $(COVERAGE_PARTS) || bad=1; \
	tests/coverage --out build/coverage || bad=1; exit $$bad
coverage-build: $(OUT)/psad $(UNIT) $(RACE) $(FUZZ)

# Options of bench/run go into BENCH_OPTIONS, for instance "--cases a,b --rounds 3".
bench bench-peers: all $(BENCH) $(OUT)/bench/load $(OUT)/bench/psad-timed
	$(if $(filter bench-peers,$@),packaging/deps.sh bench)
	bench/run --psad psad=$(OUT)/psad --timed $(OUT)/bench/psad-timed --load $(OUT)/bench/load \
		--bare $(OUT)/bench/bare --bench-log $(OUT)/bench/bench_log --cpus both \
		--out $(OUT)/bench/results $(if $(filter bench-peers,$@),--servers all) $(BENCH_OPTIONS)
	$(if $(wildcard bench/bench_replay.c),$(OUT)/bench/bench_replay $(OUT)/psad)

# Shows that tests and tools find what they are there for: one fault at a time, planted into a copy.
planted:
	@bad=0; for run in $(wildcard tests/*/planted*/run); do \
		echo "== $$run"; $$run || bad=1; done; exit $$bad

# Every state of small models of what threads do to one another: tests/models/README.md.
models:
	packaging/deps.sh models
	tests/models/run $(MODELS_OPTIONS)

# The seeds are in tests/fuzz/corpus, what is found comes into build/fuzz/found (build/afl/found).
fuzz fuzz-afl: $(FUZZ_PROGRAMS)
	$(if $(FUZZ_PROGRAMS),tests/fuzz/run --engine $(if $(filter afl,$(FLAVOUR)),afl,libfuzzer) \
		--out $(OUT) --seconds $(FUZZ_SECONDS),@echo "$(CC) is not here: $@ is skipped"; \
		echo "packaging/deps.sh fuzz installs it"; echo "0 passed, 0 failed")

# What a file says of where things are follows PREFIX and SYSCONFDIR. A configuration that is there
# already is somebody's, and stays.
TO = $(DESTDIR)$(PREFIX)
DOC = $(TO)/share/doc/psad
PLACES = sed -e 's,/usr/sbin/psad,$(PREFIX)/sbin/psad,g' -e 's,/etc/psad,$(SYSCONFDIR)/psad,g' \
	-e 's,/usr/share/doc,$(PREFIX)/share/doc,g'
PAGE_DATE := $(shell LC_ALL=C date -u $(addprefix -d @,$(SOURCE_DATE_EPOCH)) '+%B %-d, %Y')
PAGE = -e 's/\$$Mdocdate\$$/$(PAGE_DATE)/' -e 's/^\.Os psad$$/.Os psad $(VERSION)/'
install: $(OUT)/psad
	install -d $(DOC)/examples/psad.service.d $(DOC)/examples/clients $(DESTDIR)$(SYSCONFDIR)/psad
	install -D -m 755 $(OUT)/psad $(TO)/sbin/psad
	set -e; for page in packaging/man/*.[578]; do \
		to=$(TO)/share/man/man$${page##*.}; install -d $$to; \
		$(PLACES) $(PAGE) $$page >$$to/$${page##*/}; chmod 644 $$to/$${page##*/}; done
	set -e; install -d $(DESTDIR)$(UNITDIR); for unit in psad.service psad.socket; do \
		$(PLACES) packaging/$$unit >$(DESTDIR)$(UNITDIR)/$$unit; \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit; done
	install -D -m 644 packaging/psad.sysusers $(TO)/lib/sysusers.d/psad.conf
	install -D -m 644 packaging/psad.tmpfiles $(TO)/lib/tmpfiles.d/psad.conf
	install -m 644 README.md LICENSE psad.conf.example $(DOC)
	install -m 644 conf/*.conf $(DOC)/examples
	install -m 644 tests/clients/README.md tests/clients/subscribe.* tests/clients/*.java \
		$(DOC)/examples/clients
	$(PLACES) packaging/psad.service.d/memory.conf >$(DOC)/examples/psad.service.d/memory.conf
	chmod 644 $(DOC)/examples/psad.service.d/memory.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/psad/psad.conf ] || \
		$(PLACES) packaging/psad.conf >$(DESTDIR)$(SYSCONFDIR)/psad/psad.conf
	chmod 644 $(DESTDIR)$(SYSCONFDIR)/psad/psad.conf

deb rpm:
	packaging/build $@ $(VERSION)

# Exit status 0 where it can't be: it says why.
try-deb:
	tests/package/run

clean:
	rm -rf build

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
