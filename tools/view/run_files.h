// Single files of a run folder, read so that damage is told and not thrown.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ranvier::view {

using Json = nlohmann::ordered_json;

/// Reads files of one folder; what is wrong with them gathers in `problems`.
class RunFiles {
 public:
  explicit RunFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

  bool has(const char* name) const;
  /// Text of a file of at most 64 MB, empty where there is none.
  std::string text(const char* name);
  /// Null where there is none or it is no JSON object.
  Json object(const char* name);
  /// The objects of a file of one a line. A last line without its end is being written, and left out.
  std::vector<Json> lines(const char* name);
  /// Columns of numbers by the names of the first line; rows that are cut short or hold no numbers are left out.
  struct Table {
    std::vector<std::string> names;
    std::vector<std::vector<double>> columns;
    const std::vector<double>* find(std::string_view name) const;
    size_t rows() const { return columns.empty() ? 0 : columns.front().size(); }
    /// At most about `most` rows: of every stretch the ones where column `by` is lowest and highest.
    void thin(std::string_view by, size_t most);
  };
  Table table(const char* name);
  /// The first convolution of a checkpoint as pictures: {"count", "height", "width", "values": [0 ... 255]}; null where
  /// there is none over three channels.
  Json filters(const char* name);
  /// The coupled layers of a checkpoint: of each the units' places (x, y, z), sizes and myelin; null where there is
  /// none.
  Json coupling(const char* name);

  /// Seconds since any file of the folder was written.
  double age() const;
  const Json& problems() const { return problems_; }
  void problem(const std::string& what) { problems_.push_back(what); }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
  Json problems_ = Json::array();
};

}  // namespace ranvier::view
