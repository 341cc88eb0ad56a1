#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs what building, testing and checking psad needs and this machine lacks, from the
# distribution's own packages. Says what it does; does and says nothing where all is there.
#
#   packaging/deps.sh [build] [test] [models] [lint] [coverage] [valgrind] [fuzz] [package]
#                     [bench] [all]
#
# Nothing named is build.
#
# bench has other brokers to compare with. They are installed only: none of their services is
# started, now or at the next boot.

set -u
export DEBIAN_FRONTEND=noninteractive

build=(gcc make pkg-config libc6-dev libevent-dev libck-dev libinih-dev libsystemd-dev
	libxxhash-dev uthash-dev)
test=(libcmocka-dev python3 python3-pytest python3-pytest-xdist procps netcat-openbsd)
# Without one of these the tests that need it are skipped.
test_optional=(netcat-traditional ncat socat busybox strace mandoc systemd iproute2)
models=(spin gcc)
lint=(clang clang-format clang-tidy cppcheck)
lint_optional=(shellcheck)
package=(debhelper dpkg-dev)
# Without one of these the package is not looked at, or not tried, or there is none for RPM.
package_optional=(lintian rpm rpmlint debootstrap systemd systemd-container mandoc)
fuzz=(clang libclang-rt-14-dev)
# Without it there is no make fuzz-afl.
fuzz_optional=(afl++)
coverage=(gcovr)
valgrind=(valgrind libc6-dbg)
# Without one of these there are no plots, or that broker is left out, or you can't look closer.
bench_optional=(gnuplot-nox nats-server redis-server mosquitto linux-perf strace valgrind)
# What of it is a service, under the name of its package.
services=(nats-server redis-server mosquitto)
# Languages of the example clients, as "command package": whatever provides the command will do.
languages=("perl perl" "node nodejs" "go golang-go" "javac default-jdk-headless")

say() {
	echo "deps: $*" >&2
}

# Prints those of the named packages that are not installed.
missing() {
	local installed
	# shellcheck disable=SC2016 # the format is dpkg's
	installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null)
	for package; do
		grep -qx "installed $package" <<<"$installed" || echo "$package"
	done
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo DEBIAN_FRONTEND=noninteractive "$@"
	else
		say "neither root nor sudo: can't run $*"
		return 1
	fi
}

# Installs packages; if that fails, once more with fresh package lists.
is_updated=no
install() {
	say "installing $*"
	as_root apt-get install -y -q --no-install-recommends "$@" >&2 </dev/null && return 0
	[ $is_updated = no ] || return 1
	is_updated=yes
	say "updating the package lists"
	as_root apt-get update -q >&2 </dev/null
	as_root apt-get install -y -q --no-install-recommends "$@" >&2 </dev/null
}

# While services are among what is installed, Debian's own means keeps them from being started: a
# policy that refuses everything. One that was there before comes back whatever happens.
policy=/usr/sbin/policy-rc.d
refuse_services() {
	trap allow_services EXIT
	trap 'exit 130' INT TERM HUP
	if [ -e "$policy" ] && [ ! -e "$policy.psad-saved" ]; then
		as_root mv "$policy" "$policy.psad-saved"
	fi
	printf '#!/bin/sh\n# packaging/deps.sh of psad, until it ends\nexit 101\n' |
		as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
}

# shellcheck disable=SC2317 # the trap calls it
allow_services() {
	as_root rm -f "$policy"
	[ ! -e "$policy.psad-saved" ] || as_root mv "$policy.psad-saved" "$policy"
}

required=()
optional=()
for group in "${@:-build}"; do
	case $group in
	build | all) required+=("${build[@]}") ;;&
	test | all)
		required+=("${test[@]}")
		optional+=("${test_optional[@]}")
		for language in "${languages[@]}"; do
			command -v "${language% *}" >/dev/null || optional+=("${language#* }")
		done
		;;&
	models | all) required+=("${models[@]}") ;;&
	lint | all)
		required+=("${lint[@]}")
		optional+=("${lint_optional[@]}")
		;;&
	coverage | all) required+=("${coverage[@]}") ;;&
	valgrind | all) required+=("${valgrind[@]}") ;;&
	fuzz | all)
		required+=("${fuzz[@]}")
		optional+=("${fuzz_optional[@]}")
		;;&
	package | all)
		required+=("${package[@]}")
		optional+=("${package_optional[@]}")
		;;&
	bench | all) optional+=("${bench_optional[@]}") ;;&
	build | test | models | lint | coverage | valgrind | fuzz | package | bench | all) ;;
	*)
		say "unknown group '$group'; there are build, test, models, lint," \
			"coverage, valgrind, fuzz, package, bench and all"
		exit 1
		;;
	esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	say "this is not Debian or Ubuntu; see for yourself that these are there: ${required[*]}"
	exit 0
fi

mapfile -t lacking < <(missing "${required[@]}")
if [ ${#lacking[@]} -gt 0 ] && ! install "${lacking[@]}"; then
	say "could not install ${lacking[*]}"
	exit 1
fi

[ ${#optional[@]} -gt 0 ] || exit 0
mapfile -t lacking < <(missing "${optional[@]}")
[ ${#lacking[@]} -gt 0 ] || exit 0
new_services=()
for service in "${services[@]}"; do
	[[ " ${lacking[*]} " != *" $service "* ]] || new_services+=("$service")
done
[ ${#new_services[@]} -eq 0 ] || refuse_services
if ! install "${lacking[@]}"; then
	for package in $(missing "${lacking[@]}"); do
		install "$package" || say "could not install $package: what needs it is skipped"
	done
fi
for service in "${new_services[@]}"; do
	as_root update-rc.d "$service" disable >/dev/null 2>&1
done
exit 0
