// The page, its scripts and styles, as the build put them into the program.
#pragma once
#include <span>
#include <string_view>

namespace ranvier::view {

struct Asset {
  std::string_view path;  ///< "/index.html"
  std::string_view type;  ///< of the media
  std::string_view body;
};

std::span<const Asset> assets();
/// Null where there is none of the path.
inline const Asset* find_asset(std::string_view path) {
  for (const Asset& asset : assets())
    if (asset.path == path) return &asset;
  return nullptr;
}

}  // namespace ranvier::view
