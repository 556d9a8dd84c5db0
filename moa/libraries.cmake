target_link_libraries(ballast_moa PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
