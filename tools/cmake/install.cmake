# What `cmake --install` puts in place: program, library, headers, and what find_package(ranvier) reads.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/ranvier)
install(TARGETS ranvier_library ranvier_usage EXPORT ranvier-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET ranvier)
  install(TARGETS ranvier RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY engine kernels models data DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ranvier
        FILES_MATCHING PATTERN "*.h" PATTERN "*.cuh")
install(EXPORT ranvier-targets NAMESPACE ranvier:: DESTINATION ${package_folder})
configure_package_config_file(tools/cmake/ranvier-config.cmake.in ${PROJECT_BINARY_DIR}/ranvier-config.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ranvier-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ranvier-config.cmake ${PROJECT_BINARY_DIR}/ranvier-config-version.cmake
        DESTINATION ${package_folder})
