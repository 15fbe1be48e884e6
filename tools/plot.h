// Pictures through gnuplot: one script, drawn as SVG and PNG.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace ranvier::cli {

/// A picture in the making.
struct Plot {
  std::string name;               ///< of the files: NAME.gnuplot, NAME.svg, NAME.png
  int width = 900, height = 600;  ///< pixels
  std::string data;               ///< $blocks
  std::string body;               ///< what to draw; the output is already set

  /// Adds "$NAME << E ... E" of columns; NaN leaves a gap. Empty columns give one row of NaN, which draws nothing.
  void add(const std::string& block, const std::vector<std::vector<double>>& columns);
};

/// Writes the script into the folder and runs it. Returns a line that says what was drawn, or that gnuplot is missing.
std::string draw(const std::filesystem::path& folder, const Plot& plot);

/// Text inside single quotes of gnuplot.
std::string quoted(const std::string& text);

}  // namespace ranvier::cli
