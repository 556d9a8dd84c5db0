#include "kernels/recording.h"

#include <utility>

#include "kernels/cuda/runtime.h"

namespace ballast {

Recording::Recording(Context& context, std::function<void()> work, bool record)
    : context_(context), work_(std::move(work)), record_(record && replays(context)) {}
Recording::~Recording() = default;

void Recording::run() {
    if (!record_ || !std::exchange(has_run_, true)) return work_();
    if (graph_ == nullptr || scratch_ != context_.scratch().address() || replacements_ != context_.replacements()) {
        graph_ = cuda::record(context_.stream(), work_);
        scratch_ = context_.scratch().address();
        replacements_ = context_.replacements();
    }
    graph_->launch(context_.stream());
}

}  // namespace ballast
