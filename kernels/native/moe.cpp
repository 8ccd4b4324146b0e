// A mixture of experts on a CPU, in one parallel region.
//
// N rows, D input width, H hidden width of one expert, W = H columns of an expert's first product, or two padded
// halves for swiglu, E experts, k experts per row, C output width, M assignments of a row to an expert, m rows of one
// expert, P panels.
//
// Weights (E, K, X) are packed as panels (E, P, K, WIDTH): a step of a product reads WIDTH neighbouring values of one
// panel, and one value of each of REGISTER_ROWS rows straight from where these rows lie. Every sum runs over K in order
// and then over the experts of a row in order of ids, whatever the blocks, the path and the number of threads, so that
// results repeat to the bit and a row does not depend on the others.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <utility>

#if AT_PARALLEL_OPENMP && !defined(_OPENMP)
#error "without -fopenmp one thread would do the work of all"
#endif

namespace {

using at::BFloat16;
using at::Tensor;
using Vec = at::vec::Vectorized<float>;

constexpr int64_t LANES = Vec::size();
constexpr int64_t WIDTH = 2 * LANES;  // columns of a panel: two registers
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTER_ROWS = 12;  // 24 of 32 registers hold sums
#else
constexpr int REGISTER_ROWS = 6;  // 12 of 16 registers hold sums
#endif
constexpr int64_t DEPTH = 256;  // of a panel that stays in the first cache while all rows pass
constexpr int64_t CHUNK = 96;  // rows of one expert whose hidden values stay in the second cache

enum Activation { RELU, GELU, SILU, SWIGLU };

int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Memory for all arrays of a call, laid out twice: first without memory, to learn its size.
class Arena {
 public:
  explicit Arena(void* memory) : base_(reinterpret_cast<uintptr_t>(memory)) {}
  template <typename T>
  T* take(int64_t count) {
    auto start = base_ + used_;
    used_ += up(count * static_cast<int64_t>(sizeof(T)), 64);
    return reinterpret_cast<T*>(start);
  }
  int64_t used() const { return used_; }

 private:
  uintptr_t base_;
  int64_t used_ = 0;
};

// A phase of work that threads share: each takes the next task until none is left, and leaves when all have ended.
// A task that was taken is being run, so waiting for it never stops everything, even with one thread.
class Phase {
 public:
  template <typename Task>
  void run(int64_t tasks, const Task& task) {
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      task(i);
      done_.fetch_add(1, std::memory_order_release);
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) < tasks;)
      if (++spins > 4096) std::this_thread::yield();
  }

 private:
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int64_t> done_{0};
};

Vec load(const float* values) { return Vec::loadu(values); }

Vec load(const BFloat16* values) {
  Vec wide;
  at::vec::load_fp32_from_bf16(values, wide);
  return wide;
}

// Panels of weights (P, K, WIDTH) with a bias for each of their columns; the last panel may be half empty.
template <typename T>
struct Panels {
  const T* weights;
  const float* bias;
  int64_t K, columns;

  // The panels of `count` columns from a column on, a multiple of WIDTH.
  Panels part(int64_t column, int64_t count) const { return {weights + column * K, bias + column, K, count}; }
};

// Rows of a product, and where their values go: `length` values of each row from one on, times panels `apart` values
// apart.
template <typename T>
struct Operands {
  const float* const* rows;
  int64_t from, length;
  const T* panel;
  int64_t apart;
  float* out;
  int64_t stride;

  Operands below(int64_t m) const { return {rows + m, from, length, panel, apart, out + m * stride, stride}; }
};

// Add to R rows of `out` their products with V registers of columns, from one panel or from panels side by side.
template <int R, int V, typename T>
void tile(const Operands<T>& o) {
  Vec sums[R][V];
  const float* x[R];
#pragma GCC unroll 24
  for (int r = 0; r < R; r++) {
    x[r] = o.rows[r] + o.from;
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sums[r][v] = Vec::loadu(o.out + r * o.stride + v * LANES);
  }
  auto panel = o.panel;
  for (int64_t d = 0; d < o.length; d++, panel += WIDTH) {
    Vec w[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) w[v] = load(panel + v / 2 * o.apart + v % 2 * LANES);
#pragma GCC unroll 24
    for (int r = 0; r < R; r++) {
      Vec value(x[r][d]);
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) sums[r][v] = at::vec::fmadd(value, w[v], sums[r][v]);
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sums[r][v].store(o.out + r * o.stride + v * LANES);
}

// The same for the last m <= R rows.
template <int R, int V, typename T>
void last(int64_t m, const Operands<T>& o) {
  if constexpr (R > 0) {
    if (m == R) return tile<R, V>(o);
    last<R - 1, V>(m, o);
  }
}

// The same for m rows, R at a time.
template <int R, int V, typename T>
void tiles(int64_t m, const Operands<T>& o) {
  int64_t i = 0;
  for (; i + R <= m; i += R) tile<R, V>(o.below(i));
  last<R - 1, V>(m - i, o.below(i));
}

// out (m, up to WIDTH columns) = bias + rows (m, K) times panels.
template <typename T>
void product(const float* const* rows, int64_t m, const Panels<T>& w, float* out, int64_t stride) {
  for (int64_t i = 0; i < m; i++) std::copy_n(w.bias, up(w.columns, WIDTH), out + i * stride);
  auto depth = m > REGISTER_ROWS ? DEPTH : w.K;  // few rows read each panel once, from end to end
  for (int64_t from = 0; from < w.K; from += depth)
    for (int64_t c = 0, step; c < w.columns; c += step) {
      auto panel = w.weights + c * w.K + from * WIDTH;
      auto left = w.columns - c;
      Operands<T> o{rows, from, std::min(depth, w.K - from), panel, w.K * WIDTH, out + c, stride};
      step = WIDTH;
      if (m == 1 && left >= 4 * WIDTH) {  // one row has too few sums in flight with one panel, so it takes four
        step = 4 * WIDTH;
        tile<1, 8>(o);
      } else if (m == 2 && left >= 2 * WIDTH) {
        step = 2 * WIDTH;
        tile<2, 4>(o);
      } else if (left > LANES) {
        tiles<REGISTER_ROWS, 2>(m, o);
      } else {
        tiles<2 * REGISTER_ROWS, 1>(m, o);
      }
    }
}

Vec silu(Vec x) { return x / (Vec(1.0f) + x.neg().exp()); }

// Activate `columns` hidden values of m rows in place; for swiglu those of their ups lie `half` further.
void activate(float* hidden, int64_t m, int64_t columns, int64_t stride, int64_t half, int64_t activation) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t c = 0; c < columns; c += LANES) {
      auto at = hidden + i * stride + c;
      auto x = Vec::loadu(at);
      switch (activation) {
        case RELU: x = at::vec::maximum(x, Vec(0.0f)); break;
        case GELU: x = Vec(0.5f) * x * (Vec(1.0f) + (x * Vec(static_cast<float>(M_SQRT1_2))).erf()); break;
        case SILU: x = silu(x); break;
        default: x = silu(x) * Vec::loadu(at + half);
      }
      x.store(at);
    }
}

// NaN ranks above every number; of equal scores the one met first stays.
bool above(float a, float b) { return a > b || (a != a && b == b); }

struct Router {
  Panels<float> panels;  // D -> E
  int64_t k;
  float temperature;
  bool standardise, over_all;

  // Choose the k best of E scores, which are standardised in place first, in order of their ids.
  void choose(float* scores, int64_t* ids, float* weights, float* best) const {
    auto E = panels.columns;
    if (standardise) standardised(scores, E);
    if (k == E) {
      for (int64_t e = 0; e < E; e++) ids[e] = e;
      std::copy_n(scores, E, weights);
    } else {
      for (int64_t e = 0, count = 0; e < E; e++) {
        if (count == k && !above(scores[e], best[k - 1])) continue;
        auto place = count < k ? count++ : k - 1;
        for (; place > 0 && above(scores[e], best[place - 1]); place--) {
          best[place] = best[place - 1];
          ids[place] = ids[place - 1];
        }
        best[place] = scores[e];
        ids[place] = e;
      }
      std::copy_n(best, k, weights);
    }
    softmax(scores, E, weights);
  }

 private:
  static void standardised(float* scores, int64_t E) {
    float mean = 0, largest = 0, squares = 0;
    for (int64_t e = 0; e < E; e++) mean += scores[e];
    mean /= static_cast<float>(E);
    for (int64_t e = 0; e < E; e++) largest = std::max(largest, std::abs(scores[e] -= mean));
    if (largest > 0)
      for (int64_t e = 0; e < E; e++) scores[e] /= largest;  // so that no square overflows
    for (int64_t e = 0; e < E; e++) squares += scores[e] * scores[e];
    auto std = std::sqrt(squares / static_cast<float>(std::max<int64_t>(E - 1, 1)));
    if (std != 0)
      for (int64_t e = 0; e < E; e++) scores[e] /= std;
  }

  // Turn the chosen scores `weights` (k,) into shares of one, among themselves or among all E scores.
  void softmax(const float* scores, int64_t E, float* weights) const {
    auto pool = over_all ? scores : weights;
    auto size = over_all ? E : k;
    auto top = *std::max_element(pool, pool + size);
    float sum = 0;
    for (int64_t i = 0; i < size; i++) sum += std::exp((pool[i] - top) / temperature);
    for (int64_t i = 0; i < k; i++) weights[i] = std::exp((weights[i] - top) / temperature) / sum;
  }
};

// Assignments of rows to experts: row n has those from start(n) to start(n + 1); an id outside 0 to E - 1 means none.
struct Assignments {
  const int64_t* starts;  // (N + 1,), or null if every row has k
  int64_t k;
  int64_t* ids;  // (M,)
  float* weights;  // (M,)

  int64_t start(int64_t row) const { return starts ? starts[row] : row * k; }

  // The most that `rows` rows from a multiple of `rows` on have.
  int64_t most(int64_t N, int64_t rows) const {
    int64_t most = 0;
    for (int64_t from = 0; from < N; from += rows) most = std::max(most, start(std::min(from + rows, N)) - start(from));
    return most;
  }
};

// Assignments of some rows sorted by expert, rows ascending within each.
struct Sorted {
  int64_t* ends;  // (E + 1,): expert e has the places from ends[e] to ends[e + 1]
  int64_t* rows;  // (M,)
  float* weights;  // (M,)

  void sort(const Assignments& all, int64_t E, int64_t from, int64_t to) const {
    std::fill_n(ends, E + 1, 0);
    for (auto i = all.start(from); i < all.start(to); i++)
      if (all.ids[i] >= 0 && all.ids[i] < E) ends[all.ids[i] + 1]++;
    for (int64_t e = 0, sum = 0; e < E; e++) sum += std::exchange(ends[e + 1], sum);
    for (auto row = from; row < to; row++)
      for (auto i = all.start(row); i < all.start(row + 1); i++)
        if (auto e = all.ids[i]; e >= 0 && e < E) {
          auto place = ends[e + 1]++;
          rows[place] = row;
          weights[place] = all.weights[i];
        }
  }
};

// Arrays of one thread.
struct Private {
  const float** rows;  // (CHUNK,)
  float* scores;  // (CHUNK, padded E)
  float* best;  // (E,)
  float* y;  // (CHUNK, padded C)
};

// Arrays of a block of rows.
struct Block {
  float* x;  // (rows, D), or null if the features are fp32
  float* sums;  // (rows, C), or null likewise
  float* hidden;  // (M, W)
  Sorted sorted;
};

// How a call is run: the threads that take part, the rows of a block, which go through all steps together, and whether
// threads share every step of a block, or each takes blocks of its own.
struct Plan {
  int64_t threads, block;
  bool shared;
};

// Limits were measured on an AMD EPYC with 512 KB of second and 32 MB of last cache, and matter little around their
// values.
constexpr int64_t BLOCK = 256;  // rows that one thread takes through all steps, unless their hidden values are wide
constexpr int64_t LEAST_BLOCK = CHUNK;
constexpr int64_t CACHED = 1 << 18;  // bytes of the hidden values of a thread's block: half of the second cache
constexpr int64_t SHARED = 1 << 28;  // bytes of the hidden values of a block that threads share
constexpr int64_t RESIDENT = 1 << 24;  // bytes of weights that stay in the last cache
constexpr int64_t THREAD_WORK = 1000000;  // operations that are worth another thread: about as long as it takes to wake

// Threads take blocks of their own if the weights stay in a cache that they share: then nobody waits. Otherwise they
// share every step of a block, so that weights are read from memory once.
Plan plan_of(int64_t N, int64_t D, int64_t W, int64_t H, int64_t E, int64_t C, int64_t k, int64_t element_size,
             int64_t threads) {
  auto weights = D * W + H * C;  // of one expert
  auto used = std::min(E, N * k) * weights * element_size;
  threads = std::clamp<int64_t>(2 * N * k * weights / THREAD_WORK, 1, threads);
  auto row = 4 * std::max<int64_t>(1, k) * W;  // bytes of hidden values
  if (used > RESIDENT || threads > N)
    return {threads, std::clamp<int64_t>(SHARED / row, std::min(N, LEAST_BLOCK), std::max<int64_t>(1, N)), true};
  auto most = std::clamp(CACHED / row, LEAST_BLOCK, BLOCK);
  auto rounds = std::max<int64_t>(1, (N + threads * most - 1) / (threads * most));
  return {threads, std::max<int64_t>(1, (N + threads * rounds - 1) / (threads * rounds)), false};
}

template <typename T>
struct Call {
  const T* x;  // (N, D), rows `stride` apart
  int64_t stride;
  T* out;  // (N, C)
  int64_t N, D, E, H, C;
  Panels<T> first, second;  // of expert 0
  int64_t activation;
  const Router* router;  // or null if the assignments are given
  Assignments assignments;
  bool given;  // whether the assignments are given; else each row has k
  int64_t* ends;  // (blocks, E + 1): where experts end, if assignments come sorted by expert in each block; or null
  bool combines;  // whether outputs are summed, or left out to see what that costs
  Plan plan;

  static constexpr bool narrow = !std::is_same_v<T, float>;
  int64_t wide() const { return up(C, WIDTH); }
  int64_t half() const { return up(H, WIDTH); }
  int64_t W() const { return (activation == SWIGLU ? 2 : 1) * half(); }

  Private private_arrays(Arena& arena) const {
    return {arena.take<const float*>(CHUNK), arena.take<float>(CHUNK * up(E, WIDTH)), arena.take<float>(E),
            arena.take<float>(CHUNK * wide())};
  }

  Block block_arrays(Arena& arena, int64_t M) const {
    Block b;
    b.x = narrow ? arena.take<float>(plan.block * D) : nullptr;
    b.sums = narrow ? arena.take<float>(plan.block * C) : nullptr;
    b.hidden = arena.take<float>(M * W());
    b.sorted = {arena.take<int64_t>(E + 1), arena.take<int64_t>(M), arena.take<float>(M)};
    return b;
  }

  // Take rows `from` to `to` through all steps; `each(tasks, task)` runs tasks, on one thread or on several.
  template <typename Each>
  void run(int64_t from, int64_t to, int64_t parts, Block b, const Private& p, const Each& each) const {
    each((to - from + CHUNK - 1) / CHUNK, [&](int64_t i) {
      auto start = from + i * CHUNK;
      prepare(from, start, std::min(start + CHUNK, to), b, p);
    });
    if (ends) {
      auto start = assignments.start(from);
      b.sorted = {ends + from / plan.block * (E + 1), assignments.ids + start, assignments.weights + start};
    } else {
      each(1, [&](int64_t) { b.sorted.sort(assignments, E, from, to); });
    }
    auto columns = up((half() + parts - 1) / parts, WIDTH);
    auto groups = (half() + columns - 1) / columns;
    each(E * groups, [&](int64_t i) {
      auto column = i % groups * columns;
      hide(from, i / groups, column, std::min(columns, half() - column), b, p);
    });
    auto outputs = up((C + parts - 1) / parts, WIDTH);
    each((C + outputs - 1) / outputs, [&](int64_t i) {
      combine(from, to, i * outputs, std::min(outputs, C - i * outputs), b, p);
    });
  }

 private:
  const float* row(int64_t n, int64_t from, const Block& b) const {
    if constexpr (narrow) return b.x + (n - from) * D;
    else return x + n * stride;
  }

  // Widen rows `start` to `end` of the block and route them, as far as needed.
  void prepare(int64_t from, int64_t start, int64_t end, const Block& b, const Private& p) const {
    if constexpr (narrow)
      for (auto n = start; n < end; n++) std::copy_n(x + n * stride, D, b.x + (n - from) * D);
    if (!router && given) return;
    if (!router) {  // every expert serves every row, with weight 1
      for (auto i = assignments.start(start); i < assignments.start(end); i++) {
        assignments.ids[i] = i % E;
        assignments.weights[i] = 1;
      }
      return;
    }
    auto width = up(E, WIDTH);
    for (auto n = start; n < end; n++) p.rows[n - start] = row(n, from, b);
    product(p.rows, end - start, router->panels, p.scores, width);
    for (auto n = start; n < end && !given; n++) {
      auto first = assignments.start(n);
      router->choose(p.scores + (n - start) * width, assignments.ids + first, assignments.weights + first, p.best);
    }
  }

  // Fill `count` columns of the hidden values of one expert's rows.
  void hide(int64_t from, int64_t e, int64_t column, int64_t count, const Block& b, const Private& p) const {
    Panels<T> w{first.weights + e * W() * D, first.bias + e * W(), D, W()};
    for (auto place = b.sorted.ends[e]; place < b.sorted.ends[e + 1]; place += CHUNK) {
      auto m = std::min(CHUNK, b.sorted.ends[e + 1] - place);
      for (int64_t i = 0; i < m; i++) p.rows[i] = row(b.sorted.rows[place + i], from, b);
      auto hidden = b.hidden + place * W() + column;
      product(p.rows, m, w.part(column, count), hidden, W());
      if (activation == SWIGLU) product(p.rows, m, w.part(half() + column, count), hidden + half(), W());
      activate(hidden, m, count, W(), half(), activation);
    }
  }

  // Fill `count` columns of the outputs of rows `from` to `to`: sums over experts in order of ids.
  void combine(int64_t from, int64_t to, int64_t column, int64_t count, const Block& b, const Private& p) const {
    float* sums;  // of row `from`
    if constexpr (narrow) sums = b.sums + column;
    else sums = out + from * C + column;
    for (auto n = from; n < to; n++) std::fill_n(sums + (n - from) * C, count, 0.0f);
    for (int64_t e = 0; e < E; e++) {
      Panels<T> w{second.weights + e * wide() * H, second.bias + e * wide(), H, C};
      for (auto place = b.sorted.ends[e]; place < b.sorted.ends[e + 1]; place += CHUNK) {
        auto m = std::min(CHUNK, b.sorted.ends[e + 1] - place);
        for (int64_t i = 0; i < m; i++) p.rows[i] = b.hidden + (place + i) * W();
        product(p.rows, m, w.part(column, count), p.y, wide());
        for (int64_t i = 0; i < m && combines; i++) {
          auto target = sums + (b.sorted.rows[place + i] - from) * C;
          auto weight = b.sorted.weights[place + i];
          for (int64_t c = 0; c < count; c++) target[c] += weight * p.y[i * wide() + c];
        }
      }
    }
    if constexpr (narrow)
      for (auto n = from; n < to; n++) std::copy_n(sums + (n - from) * C, count, out + n * C + column);
  }
};

constexpr int64_t PHASES = 4;  // of a block, at most
constexpr int64_t PARTS = 16;  // of the columns of a product that threads share

// The bytes of the arrays that `lay_out` takes.
template <typename LayOut>
int64_t bytes(const LayOut& lay_out) {
  Arena arena(nullptr);
  lay_out(arena);
  return up(arena.used(), 64);
}

template <typename T>
void run(Call<T>& call) {
  auto [threads, block, shared] = call.plan;
  auto blocks = (call.N + block - 1) / block, phases = shared ? PHASES * blocks : 1;
  auto most = call.assignments.most(call.N, block);
  Phase* phase = nullptr;
  auto common = [&](Arena& arena) {
    phase = arena.take<Phase>(phases);
    if (call.given) return;
    call.assignments.ids = arena.take<int64_t>(call.N * call.assignments.k);
    call.assignments.weights = arena.take<float>(call.N * call.assignments.k);
  };
  auto fixed = bytes(common);
  auto own = bytes([&](Arena& arena) { call.private_arrays(arena); });
  auto each = bytes([&](Arena& arena) { call.block_arrays(arena, most); });
  auto memory = at::empty({fixed + threads * own + (shared ? 1 : threads) * each + 64}, at::kByte);
  auto base = reinterpret_cast<char*>(up(reinterpret_cast<intptr_t>(memory.data_ptr()), 64));
  Arena front(base);
  common(front);
  std::uninitialized_default_construct_n(phase, phases);

  at::parallel_for(0, threads, 1, [&](int64_t thread, int64_t) {
    Arena private_memory(base + fixed + thread * own);
    Arena block_memory(base + fixed + threads * own + (shared ? 0 : thread) * each);
    auto p = call.private_arrays(private_memory);
    auto b = call.block_arrays(block_memory, most);
    auto take = [&](int64_t i, int64_t parts, const auto& run_each) {
      call.run(i * block, std::min((i + 1) * block, call.N), parts, b, p, run_each);
    };
    if (shared) {
      auto next = phase;
      for (int64_t i = 0; i < blocks; i++)
        take(i, PARTS, [&](int64_t tasks, const auto& task) { (next++)->run(tasks, task); });
    } else {
      phase->run(blocks, [&](int64_t i) {
        take(i, 1, [](int64_t tasks, const auto& task) {
          for (int64_t j = 0; j < tasks; j++) task(j);
        });
      });
    }
  });
}

using Optional = const std::optional<Tensor>&;

// See kernels/native/operator.py.
Tensor moe(const Tensor& features, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2, int64_t H,
           int64_t C, int64_t activation, int64_t k, Optional gate, Optional gate_bias, double temperature,
           bool standardise, bool over_all, Optional ids, Optional weights, Optional starts, Optional ends,
           bool combines, at::IntArrayRef plan) {
  TORCH_CHECK_VALUE(features.dim() == 2 && features.size(1) == w1.size(2), "x must be (N, D) with D = ", w1.size(2),
                    ", as in w1, and is ", features.sizes());
  TORCH_CHECK_VALUE(features.scalar_type() == w1.scalar_type(), "x must be ", w1.scalar_type(), ", as w1, not ",
                    features.scalar_type());
  auto x = features.stride(1) == 1 ? features : features.contiguous();
  auto out = at::empty({x.size(0), C}, x.options());
  if (x.size(0) == 0) return out;
  std::optional<Tensor> chosen, shares;
  if (ids) chosen = ids->to(at::kLong).contiguous(), shares = weights->to(at::kFloat).contiguous();

  auto run_as = [&](auto type) {
    using T = decltype(type);
    Call<T> call{};
    call.x = x.const_data_ptr<T>(), call.stride = x.stride(0), call.out = out.data_ptr<T>();
    call.N = x.size(0), call.D = x.size(1), call.E = w1.size(0), call.H = H, call.C = C;
    call.first = {w1.const_data_ptr<T>(), b1.const_data_ptr<float>(), call.D, 0};
    call.second = {w2.const_data_ptr<T>(), b2.const_data_ptr<float>(), H, C};
    call.activation = activation, call.combines = combines, call.given = ids.has_value();
    Router router;
    if (gate) {
      router = {{gate->const_data_ptr<float>(), gate_bias->const_data_ptr<float>(), call.D, call.E}, k,
                static_cast<float>(temperature), standardise, over_all};
      call.router = &router;
    }
    call.assignments = {starts ? starts->const_data_ptr<int64_t>() : nullptr, k,
                        ids ? chosen->data_ptr<int64_t>() : nullptr, ids ? shares->data_ptr<float>() : nullptr};
    if (ends) call.ends = ends->data_ptr<int64_t>();
    if (plan.empty()) {
      auto size = static_cast<int64_t>(sizeof(T));
      call.plan = plan_of(call.N, call.D, call.W(), H, call.E, C, k, size, at::get_num_threads());
    } else {
      call.plan = {plan[0], plan[1], plan[2] != 0};
    }
    run(call);
  };
  if (x.scalar_type() == at::kFloat) run_as(float{});
  else run_as(BFloat16{});
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(moegap, CPU, library) { library.impl("native_moe", moe); }

TORCH_LIBRARY_IMPL(moegap, CompositeExplicitAutograd, library) {
  library.impl("native_width", [] { return WIDTH; });
  library.impl("native_plan", [](int64_t N, int64_t D, int64_t W, int64_t H, int64_t E, int64_t C, int64_t k,
                                 int64_t element_size, int64_t threads) {
    auto plan = plan_of(N, D, W, H, E, C, k, element_size, threads);
    return std::make_tuple(plan.threads, plan.block, plan.shared);
  });
}
