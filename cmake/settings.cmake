# Language, warnings and sanitizers: every target of ours links speckv_settings privately.
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
find_program(SPECKV_CCACHE ccache)
if(SPECKV_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${SPECKV_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SPECKV_CCACHE})
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
find_library(NUMA_LIBRARY numa REQUIRED)

add_library(speckv_settings INTERFACE)
target_compile_features(speckv_settings INTERFACE cxx_std_20 c_std_11)
# Codecs must give the same bits everywhere: never contract, never assume fast maths.
target_compile_options(speckv_settings INTERFACE -fno-math-errno -ffp-contract=off)
target_compile_options(speckv_settings INTERFACE -Wall -Wextra -Wpedantic -Wshadow
  -Wconversion -Wsign-conversion -Wundef -Wimplicit-fallthrough
  $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast -Wnon-virtual-dtor -Woverloaded-virtual>
  $<$<COMPILE_LANGUAGE:C>:-Wc++-compat>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Not g++ 12's -Wnull-dereference: it follows paths through std::string that cannot be taken.
  target_compile_options(speckv_settings INTERFACE -Wthread-safety -Wnull-dereference)
else()
  # Internal calls bind inside the library, as clang does unasked. g++ 12 reports its own
  # std::string operator+ (GCC bug 105651) as an overlapping copy.
  target_compile_options(speckv_settings INTERFACE -fno-semantic-interposition -Wno-restrict)
endif()
if(SPECKV_WERROR)
  target_compile_options(speckv_settings INTERFACE -Werror)
endif()
if(SPECKV_SANITIZE)
  target_compile_options(speckv_settings INTERFACE -fsanitize=${SPECKV_SANITIZE}
    -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(speckv_settings INTERFACE -fsanitize=${SPECKV_SANITIZE})
endif()
if(SPECKV_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "SPECKV_FUZZ needs clang (libFuzzer); use the preset: cmake --preset fuzz")
  endif()
  target_compile_options(speckv_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()
