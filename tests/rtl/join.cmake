# One source that includes all that Verilator wrote: cmake -DFOLDER=... -DPREFIX=... -P join.cmake
file(GLOB parts RELATIVE ${FOLDER} ${FOLDER}/${PREFIX}*.cpp)
list(REMOVE_ITEM parts ${PREFIX}__ALL.cpp)
set(text "")
foreach(part IN LISTS parts)
  string(APPEND text "#include \"${part}\"\n")
endforeach()
file(WRITE ${FOLDER}/${PREFIX}__ALL.cpp "${text}")
