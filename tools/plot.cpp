// Scripts for gnuplot, written and run.
#include "tools/plot.h"

#include <cmath>

#include "data/process.h"
#include "tools/run.h"

namespace ranvier::cli {

std::string quoted(const std::string& text) {
  std::string inside;
  for (char c : text) inside += c == '\'' ? std::string("''") : std::string(1, c);
  return "'" + inside + "'";
}

void Plot::add(const std::string& block, const std::vector<std::vector<double>>& columns) {
  data += "$" + block + " << E\n";
  const size_t rows = columns.empty() ? 0 : columns[0].size();
  for (size_t i = 0; i < rows; ++i) {
    for (const std::vector<double>& column : columns)
      data += std::isfinite(column[i]) ? fmt::format("{:.7g} ", column[i]) : std::string("NaN ");
    data += "\n";
  }
  if (rows == 0) {
    for (size_t c = 0; c < columns.size(); ++c) data += "NaN ";
    data += "\n";
  }
  data += "E\n";
}

std::string draw(const std::filesystem::path& folder, const Plot& plot) {
  std::string script = plot.data + "set grid\n";
  const char* colours[] = {"#1f6f8b", "#d1495b", "#2a9d4a", "#8e5ea2", "#e08e1b",
                           "#111111", "#5aa9e6", "#a0522d", "#c2185b", "#7a7a00"};
  for (size_t i = 0; i < std::size(colours); ++i)
    script += fmt::format("set linetype {} lc rgb '{}'\n", i + 1, colours[i]);
  for (const char* kind : {"svg", "png"}) {
    const bool svg = std::string(kind) == "svg";
    script += svg ? fmt::format("set terminal svg size {},{} font 'Helvetica,12' background 'white'\n", plot.width,
                                plot.height)
                  : fmt::format("set terminal pngcairo size {},{} font 'Helvetica,10'\n", plot.width, plot.height);
    script += fmt::format("set output {}\n{}\nset output\n",
                          quoted((folder / fmt::format("{}.{}", plot.name, kind)).string()), plot.body);
  }
  const std::filesystem::path file = folder / (plot.name + ".gnuplot");
  write_file(file, script);
  const std::string pictures = (folder / plot.name).string();
  try {
    if (data::run_program({"gnuplot", file.string()}, false).status == 0)
      return fmt::format("picture: {}.svg (and PNG)", pictures);
  } catch (const std::runtime_error&) {
  }
  return fmt::format("picture: gnuplot is missing or failed; draw it later with `gnuplot {}`", file.string());
}

}  // namespace ranvier::cli
