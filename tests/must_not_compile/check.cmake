# cmake -DSOURCE= -DCOMPILER= -DINCLUDES= -P check.cmake
set(compile ${COMPILER} -std=c++20 -Wall -Wextra -Werror -fsyntax-only ${INCLUDES} ${SOURCE})

file(STRINGS ${SOURCE} expected REGEX "^// fails with: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// fails with: " "" expected "${expected}")
if(NOT expected)
  message(FATAL_ERROR "${SOURCE}: no '// fails with: REGEX' line")
endif()

execute_process(COMMAND ${compile} RESULT_VARIABLE status ERROR_VARIABLE errors)
if(status)
  message(FATAL_ERROR "does not compile even without the offence:\n${errors}")
endif()

execute_process(COMMAND ${compile} -DSPECKV_OFFENCE RESULT_VARIABLE status ERROR_VARIABLE errors)
if(NOT status)
  message(FATAL_ERROR "the offence compiles")
endif()
if(NOT errors MATCHES "${expected}")
  message(FATAL_ERROR "fails, but not with '${expected}':\n${errors}")
endif()
