// Against transformers: logits, losses and gradients of the small models it wrote, in BALLAST_SHARED_DATA
// (tests/CMakeLists.txt).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "model/hugging_face.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

namespace ballast::test {

inline const std::string kFixtures = std::string(BALLAST_SHARED_DATA) + "/hf/";

inline std::vector<float> read_f32(const SafetensorsReader& file, const std::string& name) {
    std::vector<float> out(static_cast<size_t>(file.info(name).numel()));
    file.read_f32(name, out);
    return out;
}

struct ModelOutputs {
    std::vector<double> logits, losses;
    std::map<std::string, std::vector<double>> gradients;
    double loss = 0;
};

inline ModelOutputs run_model(Context& context, model::Transformer& model, const std::vector<int32_t>& ids, int64_t B,
                              int64_t T) {
    std::vector<int32_t> targets;
    for (int64_t i = 0; i < B * T; ++i) targets.push_back((i + 1) % T == 0 ? -1 : ids[static_cast<size_t>(i + 1)]);
    model::Pass pass(context, model, model::PassKind::forward_backward, B, T);
    pass.set_tokens(ids, targets);
    const Dtype acc = accumulation_dtype(model.dtype());
    const auto buffer = context.allocate(static_cast<size_t>(B * T * model.config().vocab_size) * size_of(acc));
    const Tensor logits(buffer.data(), acc, {B * T, model.config().vocab_size});
    pass.forward_logits(logits);
    ModelOutputs out;
    out.logits = to_host(context, logits);
    const model::FlatArray d(context, model.weights().table(), acc);
    pass.forward_backward(d, 1.0 / static_cast<double>(B * (T - 1)));
    out.losses = to_host(context, pass.losses());
    for (double x : out.losses) out.loss += x / static_cast<double>(B * (T - 1));
    for (const auto& row : model.weights().table().rows()) out.gradients[row.name] = to_host(context, d.of(row));
    return out;
}

inline void check_against_fixture(const std::string& name, const std::string& gradients_file) {
    const std::string folder = kFixtures + name;
    if (!std::filesystem::exists(folder)) {
        WARN(folder << " is not there: parity with transformers not checked");
        return;
    }
    const SafetensorsReader reference(folder + "/ref.safetensors"), gradients(folder + "/" + gradients_file);
    const auto& shape = reference.info("input_ids").shape;
    std::vector<int32_t> ids(static_cast<size_t>(shape[0] * shape[1]));
    reference.read_as("input_ids", Dtype::i32, ids.data());

    Context context(test_device(), 2);
    model::Transformer model(context, model::read_hugging_face_config(folder), Dtype::f32);
    model::read_hugging_face_weights(folder, context, model.weights());
    const ModelOutputs out = run_model(context, model, ids, shape[0], shape[1]);
    INFO(name);
    CHECK(relative_error(out.logits, read_f32(reference, "logits")) <= 1e-5);
    CHECK(std::abs(out.loss - static_cast<double>(read_f32(reference, "loss")[0])) <= 1e-5);
    for (const auto& row : model.weights().table().rows()) {
        INFO(row.name);
        CHECK(relative_error(out.gradients.at(row.name), read_f32(gradients, "grad." + row.name)) <= 2e-5);
    }
}

}  // namespace ballast::test
