target_link_libraries(ballast_infer PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
