// Names that tell paths apart, whether they exist or not.
#include "base/path_labels.h"

#include <filesystem>

#include "base/error.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using Labels = std::vector<std::string>;

TEST_CASE("path labels: as much of a path as it takes") {
    CHECK(path_labels({"a/run", "b/other"}) == Labels{"run", "other"});
    CHECK(path_labels({"/x/a/run", "/x/b/run", "other"}) == Labels{"a/run", "b/run", "other"});
    CHECK(path_labels({"/x/run", "/y/x/run"}) == Labels{"/x/run", "y/x/run"});
    CHECK(path_labels({"runs/a/", "."})[0] == "a");
    CHECK(path_labels({"/"}) == Labels{"/"});
}

TEST_CASE("path labels: one path in two spellings is one path") {
    const TemporaryFolder folder;
    std::filesystem::create_directories(folder / "run");
    std::filesystem::create_directory_symlink(folder / "run", folder / "latest");
    const std::string run = folder / "run";
    CHECK(path_labels({folder / "latest"}) == Labels{"latest"});
    for (const std::string& other : {run, run + "/", run + "/../run", std::string(folder / "latest")})
        CHECK_THAT(message_of([&] { path_labels({run, other}); }), ContainsSubstring("given twice"));
    CHECK_THROWS_AS(path_labels({"not/there", "not/there/"}), UserError);
}

TEST_CASE("path labels: what cannot be looked at still has a name") {
    const TemporaryFolder folder;
    std::filesystem::create_symlink(folder / "loop", folder / "loop");
    CHECK(path_labels({folder / "loop", std::string(5000, 'x')}) == Labels{"loop", std::string(5000, 'x')});
}
