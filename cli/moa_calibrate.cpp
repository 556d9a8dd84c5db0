// ballast moa calibrate
#include "cli/moa_stages.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <iostream>
#include <memory>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"

namespace ballast {

void CalibrateStage::add_to(Command command) {
    add_moa_lengths(command, options.lengths, "positions of an item, its answer included, e.g. 512,1024,2048");
    command.add_option("--count", options.count, "items of each length").positive().capture_default_str();
    command
        .add_option("--answer-tokens", options.answer_tokens,
                    "most tokens of an answer; not of --kind plain, whose answer is the passage")
        .positive()
        .capture_default_str();
    command
        .add_option("--kind", kind,
                    "model: the model's own answer to an instruction about a passage; human: the text that follows the "
                    "passage; human_context: the same, with a loss on the passage too; plain: a passage alone")
        .one_of(std::vector<std::string>(moa::kItemKindNames.begin(), moa::kItemKindNames.end()))
        .capture_default_str();
    command.add_option("--instruction", instruction_file,
                       "--kind model: file with the prompt, {passage} where the passage goes; default: asks for a "
                       "summary");
    command.add_option("--seed", options.seed, "decides which passages").capture_default_str();
}

void CalibrateStage::check() const {
    if (!instruction_file.empty() && kind != moa::kItemKindNames[static_cast<size_t>(moa::ItemKind::model)])
        throw UserError(fmt::format("--instruction is for --kind model, and items of the kind {} have none", kind));
}

void CalibrateStage::run(MoaModel& model, const moa::Documents& documents, const std::string& out) const {
    moa::CalibrateOptions chosen = options;
    chosen.kind = static_cast<moa::ItemKind>(std::find(moa::kItemKindNames.begin(), moa::kItemKindNames.end(), kind) -
                                             moa::kItemKindNames.begin());
    if (!instruction_file.empty()) chosen.instruction = read_file(instruction_file);
    Progress progress("calibrate", std::ssize(chosen.lengths) * chosen.count * chosen.answer_tokens, "tokens");
    const auto items = moa::calibrate(model.context, *model.loaded.model, model.tokenizer, model.begin_of_text,
                                      documents, chosen, [&](int64_t done) { progress.update(done); });
    progress.finish();
    moa::write_items(out, items);
    std::cout << fmt::format("{} items -> {}\n", items.size(), out);
}

namespace {

struct CalibrateCommand {
    std::string model, out;
    TextOptions text;
    CalibrateStage stage;

    void run() const {
        stage.check();
        text.require_output(out, std::array{model, stage.instruction_file});
        const InterruptGuard guard;
        MoaModel loaded(model, text);
        stage.run(loaded, loaded.documents(text), out);
    }
};

}  // namespace

void add_moa_calibrate(Command parent) {
    auto o = std::make_shared<CalibrateCommand>();
    Command command =
        parent.add_subcommand("calibrate", "Long prompts with the dense model's own answers, to profile on");
    add_moa_model(command, o->model);
    o->text.add_to(command).required();
    o->stage.add_to(command);
    command.add_option("-o,--out", o->out, "JSON lines to write: {\"prompt\", \"answer\", \"kind\"}").required();
    command.footer(
        "Example:\n  ballast moa calibrate smollm2 --text books --lengths 512,1024,2048 --count 20 -o items.jsonl");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
