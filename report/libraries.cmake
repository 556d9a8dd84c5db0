target_link_libraries(ballast_report PRIVATE nlohmann_json::nlohmann_json fmt::fmt)

# The page's files become strings of the program.
file(GLOB page_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/report/page/*)
set(page_source ${CMAKE_BINARY_DIR}/generated/report/page_files.cpp)
add_custom_command(OUTPUT ${page_source}
  COMMAND ${CMAKE_COMMAND} -DPAGE=${CMAKE_SOURCE_DIR}/report/page -DOUT=${page_source}
    -P ${CMAKE_SOURCE_DIR}/report/embed_page.cmake
  DEPENDS ${page_files} ${CMAKE_SOURCE_DIR}/report/embed_page.cmake VERBATIM)
target_sources(ballast_report PRIVATE ${page_source})
