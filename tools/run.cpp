// Files, curves and progress of a run.
#include "tools/run.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "data/files.h"
#include "data/process.h"

namespace ranvier::cli {
namespace {

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// A path as a string of gnuplot, where a quote inside single quotes is written twice.
std::string quoted(const std::filesystem::path& path) {
  std::string text;
  for (char c : path.string()) text += c == '\'' ? std::string("''") : std::string(1, c);
  return "'" + text + "'";
}

/// Throws unless the folder can be made and written, and makes nothing.
void check_place(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  fs::path there = fs::absolute(folder);
  while (!fs::exists(there, ignored) && there.has_relative_path()) there = there.parent_path();
  if (!fs::is_directory(there, ignored))
    throw UsageError(fmt::format("{}: cannot be created: {} is no folder", folder.string(), there.string()));
  if (access(there.c_str(), W_OK) != 0)
    throw UsageError(fmt::format("{}: cannot be written: {}", folder.string(), std::strerror(errno)));
}

}  // namespace

RunFolder open_run(const std::string& out, const std::string& model, bool resume) {
  namespace fs = std::filesystem;
  RunFolder run;
  if (resume && out.empty()) throw UsageError("--resume needs --out, the folder of the run");
  std::error_code ignored;  // a path through a file simply has no checkpoint
  if (!out.empty()) {
    run.path = out;
  } else {
    int number = 1;
    do run.path = fs::path("runs") / fmt::format("{}-{}", model, number++);
    while (fs::exists(run.path, ignored));
  }
  if (!resume && fs::exists(run.checkpoint(), ignored))
    throw UsageError(
        fmt::format("{} holds a run already; --resume continues it, --out names another folder", run.path.string()));
  if (resume && !fs::exists(run.checkpoint(), ignored))
    throw UsageError(fmt::format("{}: nothing to resume, there is no checkpoint", run.checkpoint().string()));
  check_place(run.path);
  return run;
}

void create(const RunFolder& run) {
  std::error_code error;
  std::filesystem::create_directories(run.path, error);
  if (error) throw UsageError(fmt::format("{}: cannot be created: {}", run.path.string(), error.message()));
  if (access(run.path.c_str(), W_OK) != 0)
    throw UsageError(fmt::format("{}: cannot be written: {}", run.path.string(), std::strerror(errno)));
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  data::write_file(path, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Metrics::Metrics(std::filesystem::path path, int64_t step) : path_(std::move(path)) {
  std::ifstream old(path_);
  std::string kept;
  for (std::string line; std::getline(old, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (object.is_object() && object.value("step", int64_t{0}) <= step && step > 0) kept += line + "\n";
  }
  write_file(path_, kept);
}

void Metrics::append(const nlohmann::ordered_json& line) {
  std::ofstream file(path_, std::ios::app);
  file << line.dump() << "\n";
  file.close();
  if (!file)
    throw std::runtime_error(
        fmt::format("{}: cannot be written (folder not writable, or the disk is full)", path_.string()));
}

std::string draw_curves(const RunFolder& run) {
  std::ifstream metrics(run.metrics());
  std::string steps, epochs;  // gnuplot data blocks: epoch, loss and epoch, train %, test %
  for (std::string line; std::getline(metrics, line);) {
    const auto m = nlohmann::json::parse(line, nullptr, false);
    if (!m.is_object()) continue;
    const auto number = [&](const char* key) {
      return m.contains(key) && m[key].is_number() ? fmt::format("{}", m[key].get<double>()) : std::string("NaN");
    };
    steps += fmt::format("{} {}\n", number("epoch"), number("train_loss"));
    epochs += fmt::format("{} {} {}\n", number("epoch"), number("train_accuracy"), number("test_accuracy"));
  }
  std::string script = "$loss << E\n" + steps + "E\n$accuracy << E\n" + epochs + "E\n";
  script += "set grid; set xlabel 'epoch'; set key bottom right; set datafile missing 'NaN'; set xrange [0:*]\n";
  for (const char* kind : {"svg", "png"}) {
    const bool svg = std::string(kind) == "svg";
    script += svg ? "set terminal svg size 800,500 font 'Helvetica,14' background 'white'\n"
                  : "set terminal pngcairo size 800,500 font 'Helvetica,11'\n";
    script +=
        fmt::format("set output {}; set key top right; set ylabel 'training loss (nats per image)'; set yrange [*:*]\n",
                    quoted(run.path / fmt::format("loss.{}", kind)));
    script += "plot $loss using 1:2 with lines lw 2 lc rgb '#1f6f8b' title 'training'\n";
    script +=
        fmt::format("set output {}; set key bottom right; set ylabel 'accuracy (% of images)'; set yrange [*:100]\n",
                    quoted(run.path / fmt::format("accuracy.{}", kind)));
    script +=
        "plot $accuracy using 1:($2*100) with lines lw 2 lc rgb '#1f6f8b' title 'training, augmented images', "
        "$accuracy using 1:($3*100) with linespoints lw 2 pt 7 lc rgb '#d1495b' title 'test'\n";
  }
  const std::filesystem::path file = run.path / "curves.gnuplot";
  write_file(file, script);
  try {
    if (data::run_program({"gnuplot", file.string()}, false).status == 0)
      return fmt::format("curves: {0}/loss.svg and {0}/accuracy.svg (and PNG)", run.path.string());
  } catch (const std::runtime_error&) {
  }
  return fmt::format("curves: gnuplot is missing or failed; draw them later with `gnuplot {}`", file.string());
}

void Progress::update(const std::string& line) {
  const auto now = Clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10))) return;
  last_ = now;
  common_.write(terminal_ ? "\r\033[K" + line : line + "\n");
}

void Progress::finish(const std::string& line) {
  common_.write((terminal_ ? "\r\033[K" : "") + line + "\n");
  last_ = Clock::now();
}

Stopwatch::Stopwatch() : wall_(std::chrono::steady_clock::now()), cpu_(cpu_seconds()) {}
double Stopwatch::wall() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - wall_).count();
}
double Stopwatch::cpu() const { return cpu_seconds() - cpu_; }

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace ranvier::cli
