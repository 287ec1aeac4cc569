#!/usr/bin/env bash
# One check of an installed prefix: check.sh prefix | library | cxx_headers | c_headers |
#                                           cmake C CC|CXX CXX | pkgconfig C CC|CXX CXX | readme
# From CTest: BUILD, CMAKE, CC, CXX, LIBDIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$BUILD/tests/install
prefix=$work/prefix
library=$prefix/$LIBDIR/libcxlspeckv.so
export LD_LIBRARY_PATH=$prefix/$LIBDIR

fail() { echo "FAILED: $*" >&2; exit 1; }

check_prefix() {
  rm -rf "$prefix"
  "$CMAKE" --install "$BUILD" --prefix "$prefix" >"$work/install.log"
}

check_library() {
  readelf -d "$library" | grep -qF 'Library soname: [libcxlspeckv.so.0]' || fail "soname"
  [ -e "$library.0" ] || fail "no libcxlspeckv.so.0"
  ! readelf -d "$library" | grep -qE 'R(UN)?PATH' || fail "the library has a run path"
  ! grep -rIlF -e "$BUILD" -e "$(cd "$here/../.." && pwd)" "$prefix" ||
    fail "installed files name the build or source folder"
}

check_cxx_headers() {
  local header count=0
  for header in "$prefix"/include/cxlspeckv/*.hpp; do
    printf '#include "cxlspeckv/%s"\n' "$(basename "$header")" |
      "$CXX" -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" -x c++ - ||
      fail "$header does not compile alone"
    count=$((count + 1))
  done
  [ "$count" -ge 10 ] || fail "only $count headers"
}

check_c_headers() { # all of them in one translation unit, in both orders
  local headers reversed
  headers=$(cd "$prefix/include" && ls ./*.h cxlspeckv/*.h)
  reversed=$(sort -r <<<"$headers")
  for order in "$headers" "$reversed"; do
    sed 's/.*/#include "&"/' <<<"$order" |
      "$CC" -std=c11 -Wall -Wextra -Wpedantic -Wc++-compat -Werror -fsyntax-only -I"$prefix/include" -x c -
    sed 's/.*/#include "&"/' <<<"$order" |
      "$CXX" -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" -x c++ -
  done
}

sources_in() { # of language C or CXX
  case $1 in
    C) echo use.c; echo published.c ;;
    CXX) echo use.cpp ;;
  esac
}

check_cmake() { # in a project that enables no other language
  local build=$work/cmake_$1 sources source
  mapfile -t sources < <(sources_in "$1")
  rm -rf "$build"
  "$CMAKE" -S "$here/project" -B "$build" -G Ninja -DLANGUAGE="$1" -DCMAKE_PREFIX_PATH="$prefix" \
    -DSOURCES="$(IFS=';' && echo "${sources[*]}")" "-DCMAKE_$1_COMPILER=${!2}"
  "$CMAKE" --build "$build"
  for source in "${sources[@]}"; do "$build/${source%.*}"; done
}

check_pkgconfig() {
  export PKG_CONFIG_PATH=$prefix/$LIBDIR/pkgconfig
  local flags source standard=c++20
  [ "$1" != C ] || standard=c11
  flags=$(pkg-config --cflags --libs cxlspeckv)
  for source in $(sources_in "$1"); do
    # shellcheck disable=SC2086  # the flags are words
    "${!2}" -std=$standard "$here/project/$source" $flags -o "$work/pkgconfig_${source%.*}"
    "$work/pkgconfig_${source%.*}"
  done
}

check_readme() { # its C++ example compiles, given the names that it takes for granted
  local example
  example=$(sed -n '/^```cpp$/,/^```$/p' "$here/../../README.md" | grep -v '^```')
  [ "$(wc -l <<<"$example")" -ge 15 ] || fail "no example in README.md"
  {
    grep '^#include' <<<"$example"
    echo 'void use(speckv::MutableBytes kv_memory, std::span<const std::uint32_t> tokens,'
    echo '         speckv::Status& status) {'
    grep -v '^#include' <<<"$example"
    echo '}'
  } >"$work/readme.cpp"
  "$CXX" -std=c++20 -Wall -Wextra -Wno-missing-field-initializers -Werror -fsyntax-only \
    -I"$prefix/include" "$work/readme.cpp"
}

mkdir -p "$work"
"check_$1" "${@:2}"
