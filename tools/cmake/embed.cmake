# embed(OUTPUT NAME...): writes a C++ source that holds files as they are, for tools/view/assets.h. The assembler reads them,
# which no compiler does faster; the object depends on every one of them.
function(embed output)
  set(symbols "")
  set(rows "")
  set(index 0)
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME)
    get_filename_component(extension ${file} LAST_EXT)
    if(extension STREQUAL ".js")
      set(type "text/javascript; charset=utf-8")
    elseif(extension STREQUAL ".css")
      set(type "text/css; charset=utf-8")
    elseif(extension STREQUAL ".html")
      set(type "text/html; charset=utf-8")
    elseif(extension STREQUAL ".svg")
      set(type "image/svg+xml")
    else()
      message(FATAL_ERROR "embed: no media type is known for ${file}")
    endif()
    set(symbol "ranvier_asset_${index}")
    string(APPEND symbols
           "asm(\".section .rodata\\n.global ${symbol}\\n.global ${symbol}_end\\n${symbol}:\\n.incbin \\\"${file}\\\"\\n\"\n"
           "    \"${symbol}_end:\\n.byte 0\\n.previous\\n\");\n"
           "extern \"C\" const char ${symbol}[], ${symbol}_end[];\n")
    string(APPEND rows
           "      {\"/${name}\", \"${type}\", {${symbol}, static_cast<size_t>(${symbol}_end - ${symbol})}},\n")
    math(EXPR index "${index} + 1")
  endforeach()
  file(CONFIGURE OUTPUT ${output} CONTENT "// Written by tools/cmake/embed.cmake.
#include \"tools/view/assets.h\"

${symbols}
namespace ranvier::view {

std::span<const Asset> assets() {
  static const Asset list[] = {
${rows}  };
  return list;
}

}  // namespace ranvier::view
" @ONLY)
  set_source_files_properties(${output} PROPERTIES OBJECT_DEPENDS "${ARGN}")
endfunction()
