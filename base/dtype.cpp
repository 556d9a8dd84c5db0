#include "base/dtype.h"

namespace ballast {

std::string_view name_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::f32: return "f32";
        case Dtype::bf16: return "bf16";
        case Dtype::f64: return "f64";
        case Dtype::i32: return "i32";
        case Dtype::i64: return "i64";
        case Dtype::u8: return "u8";
        case Dtype::u16: return "u16";
        case Dtype::u32: return "u32";
    }
    return "?";
}

}  // namespace ballast
