target_link_libraries(ballast_data PRIVATE hdf5::hdf5 nlohmann_json::nlohmann_json fmt::fmt
  PkgConfig::libutf8proc PkgConfig::libpcre2-8 PkgConfig::libzstd PkgConfig::libxxhash)
