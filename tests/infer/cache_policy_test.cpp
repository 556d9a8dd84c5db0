// StreamingLLM's eviction arithmetic at and around the capacity.
#include "infer/cache_policy.h"
#include "tests/catch.h"

#include "base/error.h"

using namespace ballast;
using namespace ballast::infer;

TEST_CASE("after a forward step: the first s and the last r survive") {
    const auto policy = CachePolicy::sink(4, 8);  // C = 12
    CHECK(keep_after_forward(11, policy).size() == 11);
    CHECK(keep_after_forward(12, policy).size() == 12);
    CHECK(keep_after_forward(13, policy) == KeptRows{{0, 4}, {5, 13}});
    CHECK(keep_after_forward(30, policy) == KeptRows{{0, 4}, {22, 30}});
    CHECK(keep_after_forward(3, policy).size() == 3);
    CHECK(keep_after_forward(100, CachePolicy::dense()).size() == 100);
    CHECK(keep_after_forward(9, CachePolicy::sink(0, 8)) == KeptRows{{0, 0}, {1, 9}});
}

TEST_CASE("a cache must keep at least one recent key") {
    CHECK_THROWS_AS(CachePolicy::sink(4, 0), UserError);
    CHECK_THROWS_AS(CachePolicy::sink(-1, 4), UserError);
    CHECK(CachePolicy::sink(0, 4).kind == CacheKind::window);
    CHECK(CachePolicy::sink(4, 1020).name() == "4+1020");
}
