// Makes calibration items from documents.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/context.h"
#include "model/transformer.h"
#include "moa/items.h"

namespace ballast::moa {

/// The place of the passage in an instruction.
inline constexpr std::string_view kPassageMark = "{passage}";
/// The answer depends on the whole passage, so on distant tokens; after MoA's prompt for MultiNews.
inline constexpr std::string_view kDefaultInstruction =
    "You are given a passage of a book. Write a summary of all of it.\n\nPassage:\n{passage}\n\nNow, write a summary "
    "of "
    "the whole passage.\n\nSummary:";

struct CalibrateOptions {
    std::vector<int64_t> lengths;  // positions of an item, answer included
    int64_t count = 10;            // items of each length
    int64_t answer_tokens = 128;   // at most
    ItemKind kind = ItemKind::model;
    std::string instruction{kDefaultInstruction};  // for kind model
    uint64_t seed = 1234;                          // determines the passages
};

using Documents = std::vector<std::vector<uint32_t>>;  // the tokens of each

/// Takes the text for `count` passages of items of `length` positions away from `documents`, from the ends of the last
/// ones that are long enough, and returns it: no item that is made of the rest shares a token with those. UserError
/// when it, or what is left for items of `longest` positions, is too short.
Documents hold_out(Documents& documents, int64_t length, int64_t count, int64_t longest);

/// Passages are drawn at random places from documents that are long enough, in turn. Items of human kinds have the text
/// after the passage as their answer, and no instruction. `done` is called with the number of answer tokens so far, of
/// count * answer_tokens for each length. UserError when no document is long enough or a length has no room for a
/// passage; RunError on Ctrl-C.
std::vector<Item> calibrate(Context& context, model::Transformer& model, const data::Tokenizer& tokenizer,
                            std::optional<uint32_t> begin_of_text, const Documents& documents,
                            const CalibrateOptions& options, const std::function<void(int64_t)>& done);

}  // namespace ballast::moa
