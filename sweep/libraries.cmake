target_link_libraries(ballast_sweep PRIVATE tomlplusplus::tomlplusplus nlohmann_json::nlohmann_json fmt::fmt)
