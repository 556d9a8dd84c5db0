target_link_libraries(ballast_train PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
