target_link_libraries(ballast_base PUBLIC Threads::Threads PRIVATE hdf5::hdf5 tomlplusplus::tomlplusplus
  nlohmann_json::nlohmann_json fmt::fmt spdlog::spdlog PkgConfig::libxxhash)
