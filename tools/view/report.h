// `ranvier report`: runs as one HTML file that needs nothing else.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace ranvier::view {

/// The page with the runs of these folders and all its scripts and styles inside. Throws Error where a folder is none.
std::string report_html(const std::vector<std::filesystem::path>& folders);

}  // namespace ranvier::view
