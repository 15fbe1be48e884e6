// Puts runs, styles and the page's own renderers into one file.
#include "tools/view/report.h"

#include "engine/error.h"
#include "tools/view/assets.h"
#include "tools/view/runs.h"

namespace ranvier::view {
namespace {

std::string_view body(std::string_view path) {
  const Asset* asset = find_asset(path);
  if (!asset) fail("the program holds no {}", path);
  return asset->body;
}

/// JSON that can stand inside a script element: no tag can begin in it.
std::string inside_script(const std::string& json) {
  std::string text;
  for (const char c : json) text += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : std::string(1, c);
  return out;
}

}  // namespace

std::string report_html(const std::vector<std::filesystem::path>& folders) {
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  std::string names;
  for (const auto& folder : folders) {
    runs.push_back(read_run(folder));
    names += (names.empty() ? "" : ", ") + runs.back()["name"].get<std::string>();
  }
  std::string html =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  html += "<title>Ranvier: " + escaped(names) + "</title>\n<style>\n";
  for (const char* style : {"/dygraph.min.css", "/view.css"}) html += std::string(body(style)) + "\n";
  html +=
      "</style>\n</head>\n<body>\n<header><h1>Ranvier</h1><p id=\"status\">a report of runs, drawn from their own "
      "files</p><button id=\"theme\" type=\"button\">theme</button></header>\n<main id=\"content\"></main>\n";
  html += "<script type=\"application/json\" id=\"runs\">" + inside_script(runs.dump()) + "</script>\n";
  for (const char* script : {"/dygraph.min.js", "/basics.js", "/plot.js", "/charts.js", "/report.js"})
    html += "<script>\n" + std::string(body(script)) + "\n</script>\n";
  return html + "</body>\n</html>\n";
}

}  // namespace ranvier::view
