#include "model/family.h"

#include <algorithm>
#include <array>
#include <fmt/ranges.h>

#include "model/families/families.h"

namespace ballast::model {
namespace {

constexpr std::array<const Family*, 4> kFamilies{&kGptNeox, &kLlama, &kMpt, &kFalcon};

}  // namespace

const Family& family_of(FamilyName name) {
    const auto found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](auto* f) { return f->name == name; });
    require(found != kFamilies.end(), "a family without a description");
    return **found;
}

const Family& family_of(const ModelConfig& config) { return family_of(config.family); }

const Family* family_of_model_type(std::string_view model_type) {
    for (const Family* family : kFamilies)
        if (std::find(family->model_types.begin(), family->model_types.end(), model_type) != family->model_types.end())
            return family;
    return nullptr;
}

std::string known_model_types() {
    std::vector<std::string_view> names;
    for (const Family* family : kFamilies)
        names.insert(names.end(), family->model_types.begin(), family->model_types.end());
    return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace ballast::model
