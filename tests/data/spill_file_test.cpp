#include "data/spill_file.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <random>

#include "base/error.h"

#include "tests/base/temporary_folder.h"

using namespace ballast;

TEST_CASE("spill file: reads give what was appended, on disk, in memory and across both") {
    const test::TemporaryFolder folder;
    data::SpillFile file(folder.file("spill"));
    std::mt19937 random(20261130);
    std::string all;
    for (const size_t bytes : {0u, 1u, 100u, 300u << 10, 7u, 256u << 10, 200u << 10, 100u << 10, 1u << 20, 3u}) {
        std::string piece(bytes, '\0');
        for (char& c : piece) c = static_cast<char>(random());
        file.append(piece.data(), piece.size());
        all += piece;
        REQUIRE(file.size() == static_cast<int64_t>(all.size()));
        for (int round = 0; round < 20; ++round) {
            const size_t from = random() % (all.size() + 1), count = random() % (all.size() - from + 1);
            std::string got(count, 'x');
            file.read(static_cast<int64_t>(from), got.data(), count);
            REQUIRE((got == all.substr(from, count)));
        }
        std::string whole(all.size(), 'x');
        file.read(0, whole.data(), whole.size());
        REQUIRE((whole == all));
    }
    char beyond[2];
    CHECK_THROWS(file.read(file.size() - 1, beyond, 2));
}

TEST_CASE("spill file: a folder that is not there is the user's mistake") {
    CHECK_THROWS_AS(data::SpillFile("/no/such/folder/at/all/store.h5"), UserError);
}
