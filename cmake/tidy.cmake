# `ninja tidy`: clang-tidy over the libraries and programs. A file is looked at again when it or
# any header changed, and checked again when that changes what the compiler sees (tidy.py).
# Needs a clang build (preset tsa), whose flags clang-tidy knows; hardware/sim/rtl, which needs what
# Verilator writes, is not in such a build (tests/CMakeLists.txt).
find_program(SPECKV_CLANG_TIDY clang-tidy-14)
if(NOT SPECKV_CLANG_TIDY OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  return()
endif()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
file(GLOB_RECURSE headers CONFIGURE_DEPENDS src/*.hpp host/*.hpp host/*.h hardware/sim/*.hpp)
file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
  src/*.cpp host/*.cpp hardware/sim/*.cpp)
list(FILTER sources EXCLUDE REGEX "^hardware/sim/rtl/")
foreach(source IN LISTS sources)
  string(REPLACE "/" "." stamp ${source})
  set(stamp ${PROJECT_BINARY_DIR}/tidy/${stamp}.ok)
  add_custom_command(OUTPUT ${stamp}
    COMMAND ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/cmake/tidy.py ${SPECKV_CLANG_TIDY}
      ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR}/${source}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${PROJECT_SOURCE_DIR}/${source} ${headers} ${PROJECT_SOURCE_DIR}/.clang-tidy
      ${PROJECT_SOURCE_DIR}/cmake/tidy.py
    COMMENT "clang-tidy ${source}")
  list(APPEND stamps ${stamp})
endforeach()
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/tidy)
add_custom_target(tidy DEPENDS ${stamps})
