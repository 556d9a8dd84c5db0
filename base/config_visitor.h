// One visit() function describes a configuration: loading, saving, the table printed at start and the help all use it.
//
//     struct ModelConfig {
//         int64_t hidden_size = 512;
//         Normaliser normaliser = Normaliser::softmax;
//         void visit(FieldVisitor& v) {
//             v.section("model", "The network");
//             v.field("hidden_size", hidden_size, "channels C", {.min = 1});
//             v.field("normaliser", normaliser, kNormaliserNames, "what the attention weights are divided by");
//         }
//     };
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace ballast {

/// The allowed range of a number, both ends included. NaN is never allowed.
struct Bounds {
    double min = -std::numeric_limits<double>::infinity();
    double max = std::numeric_limits<double>::infinity();
};

template <class E>
concept Enumeration = std::is_enum_v<E>;

/// An enumeration as one of its names. The enumerators must be 0, 1, … in the order of `choices`.
class EnumField {
  public:
    template <Enumeration E>
    EnumField(E& value, std::span<const std::string_view> names)
        : choices(names),
          value_(&value),
          get_([](const void* v) { return static_cast<int>(*static_cast<const E*>(v)); }),
          set_([](void* v, int index) { *static_cast<E*>(v) = static_cast<E>(index); }) {}

    std::span<const std::string_view> choices;
    int index() const { return get_(value_); }
    void set_index(int index) const { set_(value_, index); }

  private:
    void* value_;
    int (*get_)(const void*);
    void (*set_)(void*, int);
};

using FieldRef =
    std::variant<bool*, int64_t*, double*, std::string*, std::vector<int64_t>*, std::vector<std::string>*, EnumField>;

struct Field {
    std::string_view name;  // within the section
    FieldRef value;
    std::string_view help;
    Bounds bounds;  // for numbers, and for the elements of lists of numbers
};

/// Derived classes load, save or print. A configuration calls section(), then field() once for each of its fields. A
/// second call of section() with the same name continues that section. Section names may be nested with dots
/// ("train.optimizer").
class FieldVisitor {
  public:
    virtual ~FieldVisitor() = default;

    virtual void section(std::string_view name, std::string_view help) = 0;

    void field(std::string_view name, bool& value, std::string_view help) { on_field({name, &value, help, {}}); }
    void field(std::string_view name, int64_t& value, std::string_view help, Bounds bounds = {}) {
        on_field({name, &value, help, bounds});
    }
    void field(std::string_view name, double& value, std::string_view help, Bounds bounds = {}) {
        on_field({name, &value, help, bounds});
    }
    void field(std::string_view name, std::string& value, std::string_view help) { on_field({name, &value, help, {}}); }
    void field(std::string_view name, std::vector<int64_t>& value, std::string_view help, Bounds bounds = {}) {
        on_field({name, &value, help, bounds});
    }
    void field(std::string_view name, std::vector<std::string>& value, std::string_view help) {
        on_field({name, &value, help, {}});
    }
    template <Enumeration E>
    void field(std::string_view name, E& value, std::span<const std::string_view> choices, std::string_view help) {
        on_field({name, EnumField(value, choices), help, {}});
    }

  protected:
    virtual void on_field(const Field& field) = 0;
};

}  // namespace ballast
