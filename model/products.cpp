#include "model/products.h"

namespace ballast::model {
namespace {

using Kind = Product::Kind;

struct Shape {
    const char* layer;
    int64_t outputs, inputs;
};

std::vector<Product> forward_and_backward(const std::vector<Shape>& shapes, int64_t rows) {
    std::vector<Product> products;
    for (const Kind kind : {Kind::forward, Kind::d_x, Kind::d_weight})
        for (const Shape& s : shapes) products.push_back({s.layer, kind, rows, s.outputs, s.inputs, 1});
    return products;
}

}  // namespace

std::vector<Product> products_of_layer(const ModelConfig& config, int64_t rows) {
    const int64_t C = config.hidden_size;
    std::vector<Shape> shapes{{"query_key_value", config.qkv_dim(), C},
                              {"attention.dense", C, config.attention_dim()},
                              {"mlp up", config.mlp_up_dim(), C},
                              {"mlp down", C, config.feed_forward_dim()}};
    if (config.gate == Gate::headwise) shapes.push_back({"attention.gate", config.num_heads, C});
    return forward_and_backward(shapes, rows);
}

std::vector<Product> products_of_head(const ModelConfig& config, int64_t rows) {
    return forward_and_backward({{"embed_out", config.vocab_size, config.hidden_size}}, rows);
}

std::vector<Product> products_of_pass(const ModelConfig& config, int64_t rows) {
    std::vector<Product> products = products_of_layer(config, rows);
    for (Product& product : products) product.count = config.num_layers;
    for (const Product& product : products_of_head(config, rows)) products.push_back(product);
    return products;
}

}  // namespace ballast::model
