#!/usr/bin/env bash
# Installs what building needs and is missing, and the packages named as arguments, with apt alone (Debian 12, Ubuntu 24.04).
# Says nothing when all is there.
#
#   scripts/install_packages.sh [PACKAGE…]
set -euo pipefail
case "${1:-}" in
  -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
  -*) echo "install_packages: unknown option $1; see scripts/install_packages.sh --help" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."

# The libraries are those that CMake looks for.
libraries=$(sed -n '/^set(BALLAST_APT_PACKAGES/,/)/p' cmake/Dependencies.cmake | sed 's/^set(BALLAST_APT_PACKAGES//; s/)//' | xargs)
packages="g++ cmake ninja-build ccache $libraries $*"

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  if command -v cmake >/dev/null && command -v ninja >/dev/null && command -v c++ >/dev/null; then
    exit 0   # not Debian's family, but somebody has prepared it; CMake will name what is missing
  fi
  echo "install_packages: this system has no apt; install the equivalents of: $packages" >&2
  exit 2
fi

missing=()
for package in $packages; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages: run as root:  apt-get install ${missing[*]}" >&2
    exit 2
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
