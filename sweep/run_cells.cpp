#include "sweep/run_cells.h"

#include <new>

#include "base/error.h"
#include "base/interrupt.h"

namespace ballast::sweep {
namespace {

class Loop {
  public:
    Loop(const CellActions& actions, const std::function<void(const Failure&)>& on_failure)
        : actions_(actions), on_failure_(on_failure) {}

    void cell(size_t i) {
        try {
            if (!trained(i)) return;
            outcome.trained.push_back(i);
            actions_.measure(i);
        } catch (const std::bad_alloc&) {
            fail({i, "out of memory", ""});
        } catch (const std::exception& error) {
            if (interrupted())
                outcome.interrupted = true;
            else
                fail({i, error.what(), ""});
        }
    }

    SweepOutcome outcome;

  private:
    bool trained(size_t i) {
        const CellState state = actions_.inspect(i).state;
        if (state == CellState::finished) return true;
        if (state == CellState::in_use) {
            outcome.in_use.push_back(i);
            return false;
        }
        const CellOutcome end = actions_.train(i);
        if (end.end == CellEnd::finished) return true;
        if (end.end == CellEnd::failed)
            fail({i, end.error, end.log});
        else if (interrupted())
            outcome.interrupted = true;
        else
            fail({i, "stopped by a signal from elsewhere", end.log});
        return false;
    }

    void fail(Failure failure) {
        on_failure_(failure);
        outcome.failed.push_back(std::move(failure));
    }

    const CellActions& actions_;
    const std::function<void(const Failure&)>& on_failure_;
};

}  // namespace

SweepOutcome run_cells(size_t count, const CellActions& actions,
                       const std::function<void(const Failure&)>& on_failure) {
    Loop loop(actions, on_failure);
    for (size_t i = 0; i < count && !loop.outcome.interrupted; ++i) {
        if (interrupted())
            loop.outcome.interrupted = true;
        else
            loop.cell(i);
    }
    return std::move(loop.outcome);
}

std::optional<double> time_left(double done, double total, double elapsed, std::optional<double> planned) {
    constexpr double kEnough = 20;  // seconds: an estimate by less jumps about
    if (elapsed >= kEnough && done > 0) return (total - done) * elapsed / done;
    if (planned && total > 0) return *planned * (1 - done / total);
    return std::nullopt;
}

}  // namespace ballast::sweep
