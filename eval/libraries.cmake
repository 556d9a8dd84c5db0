target_link_libraries(ballast_eval PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
