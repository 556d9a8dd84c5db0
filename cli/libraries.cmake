target_link_libraries(ballast PRIVATE CLI11::CLI11 fmt::fmt nlohmann_json::nlohmann_json)
target_precompile_headers(ballast PRIVATE <CLI/CLI.hpp>)   # 6 s a translation unit otherwise
