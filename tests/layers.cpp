// The rules of the house that a compiler cannot hold: include directions, where launches and PTX may stand, file sizes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
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
  for (const Source& source : sources(product)) EXPECT_LE(source.lines.size(), 600u) << source.path;
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
  EXPECT_EQ(code_of("f(\"a // <<< b\");  // <<<"), "f(\"\");  ");
}

}  // namespace
