target_link_libraries(ballast_model PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
