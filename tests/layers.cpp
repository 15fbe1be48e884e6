// The rules of the house that a compiler cannot hold: include directions, where launches and PTX may stand, file sizes.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
const fs::path root = RANVIER_SOURCE_DIR;

struct Source {
  std::string path;  // from the root: "engine/graph.cpp"
  std::vector<std::string> lines;
  std::string layer() const { return path.substr(0, path.find('/')); }
};

std::vector<Source> sources(const std::set<std::string>& folders) {
  std::vector<Source> found;
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string ending = entry.path().extension().string();
      if (ending != ".h" && ending != ".cpp" && ending != ".cu" && ending != ".cuh") continue;
      Source source{fs::relative(entry.path(), root).string(), {}};
      std::ifstream file(entry.path());
      for (std::string line; std::getline(file, line);) source.lines.push_back(line);
      found.push_back(std::move(source));
    }
  }
  EXPECT_GT(found.size(), 5u * folders.size()) << "the tree is not where the test looks";
  return found;
}

const std::set<std::string> product = {"engine", "kernels", "models", "data", "tools"};
const std::set<std::string> library = {"engine", "kernels", "models", "data"};

/// What each layer may include of the others. `data` hands spans to whoever asks and knows only the shared host
/// helpers.
bool may_include(const std::string& from, const std::string& target) {
  static const std::map<std::string, std::set<std::string>> allowed = {
      {"kernels", {"kernels"}},
      {"engine", {"engine", "kernels"}},
      {"models", {"models", "engine"}},
      {"data", {"data"}},
      {"tools", {"tools", "models", "engine", "kernels", "data"}},
  };
  if (from == "data" && target.starts_with("kernels/common/")) return true;
  return allowed.at(from).contains(target.substr(0, target.find('/')));
}

/// The text of a line without // comments and string literals: where code may not say a word, prose may.
std::string code_of(const std::string& line) {
  static const std::regex strings("\"([^\"\\\\]|\\\\.)*\"");
  const std::string bare = std::regex_replace(line, strings, "\"\"");
  return bare.substr(0, bare.find("//"));
}

TEST(Layers, IncludesPointOneWay) {
  const std::regex include("^\\s*#\\s*include\\s*\"([^\"]+)\"");
  int seen = 0;
  for (const Source& source : sources(product)) {
    for (size_t i = 0; i < source.lines.size(); ++i) {
      std::smatch match;
      if (!std::regex_search(source.lines[i], match, include)) continue;
      const std::string target = match[1];
      ++seen;
      EXPECT_TRUE(fs::exists(root / target))
          << source.path << ":" << i + 1 << " includes " << target << ", which is not named from the root";
      EXPECT_TRUE(may_include(source.layer(), target))
          << source.path << ":" << i + 1 << " includes " << target << ": " << source.layer() << " may not know it";
    }
  }
  EXPECT_GT(seen, 200);
}

TEST(Layers, OneHomeForLaunchesAndPtx) {
  const std::regex assembly("\\b(asm|__asm__)\\b");
  for (const Source& source : sources(product)) {
    for (size_t i = 0; i < source.lines.size(); ++i) {
      const std::string code = code_of(source.lines[i]);
      const bool launches = code.find("<<<") != std::string::npos, assembles = std::regex_search(code, assembly);
      EXPECT_FALSE(launches && source.path != "kernels/common/launch.h") << source.path << ":" << i + 1;
      EXPECT_FALSE(assembles && source.path != "kernels/common/ptx.cuh") << source.path << ":" << i + 1;
    }
  }
}

/// Why a line of a file under kernels/ may not stand there, or "". Kernels run under nvcc and in the emulator: what
/// only one of them knows, or what the emulator cannot check, stays out; and they are replayed from a graph, in which
/// nothing may be allocated or waited for.
std::string forbidden_in_kernels(const std::string& path, const std::string& code) {
  struct Rule {
    std::regex pattern;
    const char* why;
    const char* home;  // the one file, or the folder, that may
  };
  static const std::vector<Rule> rules = {
      {std::regex("__shared__"), "shared memory is declared by RANVIER_SHARED", "kernels/common/launch.h"},
      {std::regex("__CUDA_ARCH__|__CUDACC__"), "one source for the device and the emulator", "kernels/common/"},
      {std::regex("cooperative_groups|\\bnvcuda\\b|\\bwmma\\b|\\bcub\\b|\\bthrust\\b|\\bcuda::|cuda_pipeline"),
       "a library that the emulator does not have", "none"},
      {std::regex("__activemask|__nanosleep|\\bclock(64)?\\s*\\("), "depends on how threads happen to run", "none"},
      {std::regex("\\b__nv_(?!bfloat)"), "a compiler's builtin that the emulator does not have", "none"},
      {std::regex("\\b(cudaMalloc|cudaFree|cudaMemcpy|cudaMemset)\\w*|\\bcuda\\w*Synchronize\\b"),
       "kernels allocate nothing, copy nothing and never wait", "none"},
      {std::regex("\\bthread_local\\b"), "the emulator's threads share it", "none"},
  };
  const bool cuda = path.ends_with(".cu") || path.ends_with(".cuh") || path.starts_with("kernels/common/");
  if (!cuda || !path.starts_with("kernels/")) return "";
  for (const Rule& rule : rules)
    if (!path.starts_with(rule.home) && std::regex_search(code, rule.pattern)) return rule.why;
  return "";
}

TEST(Layers, KernelsKeepToWhatBothCompilersKnow) {
  int seen = 0;
  for (const Source& source : sources({"kernels"})) {
    seen += source.path.ends_with(".cu");
    for (size_t i = 0; i < source.lines.size(); ++i) {
      const std::string why = forbidden_in_kernels(source.path, code_of(source.lines[i]));
      EXPECT_EQ(why, "") << source.path << ":" << i + 1 << ": " << source.lines[i];
    }
  }
  EXPECT_GT(seen, 0);
}

TEST(Layers, TheLibraryNeverExits) {
  const std::regex exits("\\b(exit|_exit|quick_exit|abort|terminate)\\s*\\(");
  for (const Source& source : sources(library))
    for (size_t i = 0; i < source.lines.size(); ++i)
      EXPECT_FALSE(std::regex_search(code_of(source.lines[i]), exits)) << source.path << ":" << i + 1;
}

TEST(Layers, FilesOpenWithTheirPurpose) {
  std::set<std::string> folders = product;
  folders.insert("tests");
  for (const Source& source : sources(folders)) {
    ASSERT_FALSE(source.lines.empty()) << source.path;
    EXPECT_TRUE(source.lines[0].starts_with("// ")) << source.path << " opens with '" << source.lines[0] << "'";
    std::string opening;  // the first comment, joined
    for (size_t i = 0; i < source.lines.size() && source.lines[i].starts_with("//"); ++i) opening += source.lines[i];
    EXPECT_TRUE(opening.find('.') != std::string::npos) << source.path << ": its opening is no sentence: " << opening;
  }
}

TEST(Layers, FilesStayReadable) {
  std::set<std::string> folders = product;
  folders.insert("tests");
  for (const Source& source : sources(folders)) {
    if (source.path.starts_with("tests/golden/")) continue;  // values, written by programs
    EXPECT_LE(source.lines.size(), 600u) << source.path;
  }
  int scripts = 0;
  for (const char* folder : {"tools", "tests"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || (entry.path().has_extension() && entry.path().extension() != ".py")) continue;
      if (entry.path().string().find("/corpus/") != std::string::npos) continue;
      std::ifstream file(entry.path());
      const auto lines = std::count(std::istreambuf_iterator<char>(file), {}, '\n');
      EXPECT_LE(lines, 500) << entry.path();
      ++scripts;
    }
  EXPECT_GT(scripts, 20);
}

TEST(Layers, TopLevel) {
  const std::set<std::string> folders = {"engine", "kernels", "models", "data", "tools", "tests"};
  const std::set<std::string> made = {"runs"};  // by the program; ignored by git
  const std::set<std::string> files = {"CMakeLists.txt", "README.md", "LICENSE"};
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') || name.starts_with("build")) continue;
    const bool known = entry.is_directory() ? folders.contains(name) || made.contains(name) : files.contains(name);
    EXPECT_TRUE(known) << "new at the top level: " << name;
  }
  for (const std::string& folder : folders) EXPECT_TRUE(fs::is_directory(root / folder)) << folder;
}

/// The checks above can fail.
TEST(Layers, TheRulesRefuse) {
  EXPECT_FALSE(may_include("kernels", "engine/graph.h"));
  EXPECT_FALSE(may_include("engine", "models/vision.h"));
  EXPECT_FALSE(may_include("models", "data/dataset.h"));
  EXPECT_FALSE(may_include("data", "kernels/conv2d/conv2d.h"));
  EXPECT_FALSE(may_include("models", "kernels/conv2d/conv2d.h"));
  for (const char* line : {"__shared__ float s[4];", "#if defined(__CUDA_ARCH__)", "namespace cg = cooperative_groups;",
                           "unsigned m = __activemask();", "x = __nv_expf(y);", "cudaMalloc(&p, 4);",
                           "cudaMemcpyAsync(a, b, n, kind, s);", "cudaStreamSynchronize(s);", "thread_local int n;"})
    EXPECT_NE(forbidden_in_kernels("kernels/pool/cuda.cu", line), "") << line;
  EXPECT_EQ(forbidden_in_kernels("kernels/common/launch.h", "__shared__ type name"), "");
  EXPECT_EQ(forbidden_in_kernels("kernels/pool/cuda.cu", "RANVIER_SHARED(float, tile, [4]);"), "");
  EXPECT_EQ(code_of("f(\"a // <<< b\");  // <<<"), "f(\"\");  ");
}

}  // namespace
