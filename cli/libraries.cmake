# No precompiled header, though CLI11 costs seconds a file: with one, the builds of a machine could not share objects (ccache).
target_link_libraries(ballast PRIVATE CLI11::CLI11 fmt::fmt nlohmann_json::nlohmann_json)
