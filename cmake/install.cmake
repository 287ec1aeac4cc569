# `cmake --install`: headers, libcxlspeckv.so.0, programs, CMake package, pkg-config file.
include(CMakePackageConfigHelpers)

install(TARGETS cxlspeckv EXPORT cxlspeckvTargets)
install(EXPORT cxlspeckvTargets NAMESPACE cxlspeckv::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/cxlspeckv)
install(DIRECTORY src/include/cxlspeckv host/include/cxlspeckv
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES host/include/speckv.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(program IN ITEMS speckvctl cxlspeckv_demo)
  if(TARGET ${program})
    install(TARGETS ${program})
  endif()
endforeach()
if(TARGET speckvctl AND NOT SPECKV_SANITIZE)
  install(FILES ${PROJECT_BINARY_DIR}/host/speckvctl.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${PROJECT_BINARY_DIR}/host/speckvctl.bash RENAME speckvctl
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES host/cli/systemd/speckvctl-exporter@.service DESTINATION lib/systemd/system)
endif()
if(TARGET cxlspeckv_demo)
  install(DIRECTORY data/ DESTINATION ${CMAKE_INSTALL_DATADIR}/cxlspeckv)
endif()

set(package ${PROJECT_BINARY_DIR}/package)
configure_package_config_file(cmake/cxlspeckvConfig.cmake.in ${package}/cxlspeckvConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/cxlspeckv)
write_basic_package_version_file(${package}/cxlspeckvConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${package}/cxlspeckvConfig.cmake ${package}/cxlspeckvConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/cxlspeckv)

# The prefix is derived from where the file lies, so that the tree can be moved.
file(RELATIVE_PATH SPECKV_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/cxlspeckv.pc.in ${package}/cxlspeckv.pc @ONLY)
install(FILES ${package}/cxlspeckv.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
