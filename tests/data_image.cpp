// Decoding against Pillow's, resizing against its triangle filter, and files that are not images.
#include "data/image.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "data/archive.h"
#include "tests/support/files.h"

namespace ranvier::data {
namespace {

using testing::bytes_of;
using testing::error_of;

// 9 x 6 pixels r = 20 + 25x, g = 240 - 30y, b = 60 + 10x + 12y, written by Pillow 9.4: JPEG at quality 95 without
// subsampling, baseline and progressive, with Pillow's own decoding; PNG with alpha 7; PNG of the red channel as grey.
constexpr const char* jpeg_hex =
    "ffd8ffe000104a46494600010100000100010000ffdb00430002010101010102010101020202020204030202020205040403040605060606"
    "05060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affdb004301020202020202050303050a0706070a0a0a0a"
    "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0affc00011080006000903"
    "011100021101031101ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b510000201030302040305"
    "0504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a2526272829"
    "2a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a9293949596979899"
    "9aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9"
    "faffc4001f0100030101010101010101010000000000000102030405060708090a0bffc400b5110002010204040304070504040001027700"
    "0102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a3536373839"
    "3a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6"
    "a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c030100"
    "02110311003f00d4fd98bf6e8f19ff00a3fc971dbf8c7f8d2a1e06e4dde3f77fc03f36f057c2ccb7f77b743e9bff0086e9f19ff76e7fefb1"
    "fe35dbff00103726ef1fbbfe01fda5ff0010b32df2febe47ffd9";
constexpr const char* progressive_hex =
    "ffd8ffe000104a46494600010100000100010000ffdb00430002010101010102010101020202020204030202020205040403040605060606"
    "05060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affdb004301020202020202050303050a0706070a0a0a0a"
    "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0affc20011080006000903"
    "011100021101031101ffc4001500010100000000000000000000000000000407ffc400170100030100000000000000000000000000010306"
    "07ffda000c03010002100310000001509aa6bf69ffc40017100003010000000000000000000000000000040616ffda000801010001050298"
    "ba70dd387fffc4001811000301010000000000000000000000000004061622ffda0008010301013f018a965b932cb1ffc400191100020301"
    "000000000000000000000000000402066116ffda0008010201013f0185193c3864f0ffc40017100100030000000000000000000000000000"
    "023242ffda0008010100063f028d9a7fffc40017100003010000000000000000000000000000419161ffda0008010100013f214546347fff"
    "da000c0301000200030000001077ffc4001911000105000000000000000000000000000041517181f0ffda0008010301013f1064422d47ff"
    "c4001811000301010000000000000000000000000091e15161ffda0008010201013f10da90ea90ffc4001810000203000000000000000000"
    "0000000000d14181f1ffda0008010100013f10aaa2ccdb3fffd9";
constexpr const char* png_hex =
    "89504e470d0a1a0a0000000d494844520000000900000006080600000011c7b4c50000001f49444154789c6314f960c32ec9c0c5800fb330"
    "3ce2616060e0c28b07a3220087ec08abfde9575e0000000049454e44ae426082";
constexpr const char* grey_hex =
    "89504e470d0a1a0a0000000d494844520000000900000006080000000034aceb190000001249444154789c63149184022606182096050030"
    "d400e88412925c0000000049454e44ae426082";
const std::vector<int> jpeg_pixels = {
    21,  240, 60,  46,  240, 68,  70,  240, 79,  93,  240, 87,  122, 239, 98,  146, 239, 107, 170, 240, 118,
    196, 240, 127, 220, 241, 138, 19,  211, 76,  44,  210, 86,  68,  211, 97,  91,  211, 105, 120, 209, 115,
    145, 210, 126, 169, 211, 137, 194, 210, 145, 220, 209, 155, 20,  180, 82,  45,  179, 92,  69,  180, 101,
    94,  181, 112, 122, 180, 122, 146, 179, 132, 170, 180, 143, 195, 180, 151, 218, 181, 162, 21,  150, 96,
    46,  149, 104, 70,  150, 115, 95,  151, 126, 121, 149, 135, 145, 150, 146, 170, 151, 155, 194, 150, 165,
    223, 149, 176, 20,  120, 108, 45,  120, 116, 70,  120, 127, 94,  121, 138, 122, 119, 148, 146, 120, 159,
    170, 120, 169, 195, 120, 177, 218, 121, 188, 17,  90,  122, 42,  89,  131, 67,  90,  140, 91,  91,  151,
    120, 90,  162, 142, 90,  172, 166, 91,  182, 191, 91,  190, 220, 89,  201};
const std::vector<int> progressive_pixels = {
    21,  240, 60,  46,  240, 68,  70,  240, 79,  93,  240, 87,  122, 239, 98,  146, 239, 107, 170, 240, 118,
    196, 240, 127, 220, 241, 138, 19,  211, 76,  44,  210, 86,  68,  211, 97,  91,  211, 105, 120, 209, 115,
    145, 210, 126, 169, 211, 137, 194, 210, 145, 220, 209, 155, 20,  180, 82,  45,  179, 92,  69,  180, 101,
    94,  181, 112, 122, 180, 122, 146, 179, 132, 170, 180, 143, 195, 180, 151, 218, 181, 162, 21,  150, 96,
    46,  149, 104, 70,  150, 115, 95,  151, 126, 121, 149, 135, 145, 150, 146, 170, 151, 155, 194, 150, 165,
    223, 149, 176, 20,  120, 108, 45,  120, 116, 70,  120, 127, 94,  121, 138, 122, 119, 148, 146, 120, 159,
    170, 120, 169, 195, 120, 177, 218, 121, 188, 17,  90,  122, 42,  89,  131, 67,  90,  140, 91,  91,  151,
    120, 90,  162, 142, 90,  172, 166, 91,  182, 191, 91,  190, 220, 89,  201};
// Pillow's BILINEAR resize (a triangle filter as wide as the reduction) of formula_image.
const std::vector<int> from_37x50_to_4x5 = {115, 132, 146, 134, 134, 135, 130, 126, 126, 128, 124, 126, 124, 129, 130,
                                            134, 125, 123, 129, 127, 128, 129, 128, 131, 127, 128, 130, 128, 128, 129,
                                            126, 127, 132, 127, 125, 128, 127, 128, 131, 126, 126, 130, 130, 128, 131,
                                            130, 128, 130, 127, 128, 131, 128, 129, 131, 125, 130, 130, 127, 131, 126};
const std::vector<int> from_2x3_to_5x7 = {
    0,  29, 58, 1,  30, 59, 4,  33, 62, 7,  36, 65, 10, 39, 68, 13, 42, 71, 14, 43, 72, 1,  30, 59, 2,  31, 60,
    5,  34, 63, 8,  37, 66, 11, 40, 69, 14, 43, 72, 15, 44, 73, 7,  36, 65, 8,  37, 66, 11, 40, 69, 14, 43, 72,
    17, 46, 75, 21, 50, 79, 22, 51, 80, 12, 41, 70, 13, 42, 71, 17, 46, 75, 20, 49, 78, 23, 52, 81, 27, 56, 85,
    28, 57, 86, 13, 42, 71, 14, 43, 72, 18, 47, 76, 21, 50, 79, 24, 53, 82, 28, 57, 86, 29, 58, 87};
const std::vector<int> from_3x40_to_5x7 = {
    20, 49, 78,  56, 85,  114, 97,  126, 155, 137, 166, 195, 176, 205, 212, 217, 179, 60,  135, 36,  55,
    26, 55, 84,  65, 94,  123, 107, 136, 165, 150, 179, 203, 192, 190, 159, 175, 123, 61,  99,  52,  75,
    36, 65, 94,  78, 107, 136, 123, 152, 181, 169, 198, 216, 215, 167, 79,  113, 40,  62,  46,  75,  104,
    46, 75, 104, 91, 120, 149, 139, 168, 197, 189, 200, 166, 169, 103, 65,  74,  62,  88,  75,  104, 133,
    52, 81, 110, 99, 128, 157, 150, 179, 208, 202, 202, 132, 138, 61,  55,  48,  77,  106, 95,  124, 153};

std::string unhex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

// Largest difference from `expected`; a huge one when the sizes differ.
int distance(const Image& image, const std::vector<int>& expected) {
  if (image.pixels.size() != expected.size()) return 1000;
  int largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) largest = std::max(largest, std::abs(image.pixels[i] - expected[i]));
  return largest;
}

Image formula_image(int64_t height, int64_t width) {
  Image image{height, width, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(7 * x + 13 * y + 29 * c + x * y));
    }
  }
  return image;
}

TEST(Decode, JpegAsPillowDoes) {
  for (const auto& [hex, expected] :
       {std::pair{jpeg_hex, jpeg_pixels}, std::pair{progressive_hex, progressive_pixels}}) {
    const Image image = decode_image(bytes_of(unhex(hex)), "a.jpg");
    EXPECT_EQ(image.height, 6);
    EXPECT_EQ(image.width, 9);
    EXPECT_LE(distance(image, expected), 2);
  }
}

TEST(Decode, PngExactly) {
  const Image image = decode_image(bytes_of(unhex(png_hex)), "a.png"),
              grey = decode_image(bytes_of(unhex(grey_hex)), "g");
  ASSERT_EQ(image.pixels.size(), 6u * 9 * 3);
  ASSERT_EQ(grey.pixels.size(), 6u * 9 * 3);
  for (size_t y = 0; y < 6; ++y) {
    for (size_t x = 0; x < 9; ++x) {
      const uint8_t* rgb = image.pixels.data() + (9 * y + x) * 3;
      EXPECT_EQ(rgb[0], 20 + 25 * x);
      EXPECT_EQ(rgb[1], 240 - 30 * y);
      EXPECT_EQ(rgb[2], 60 + 10 * x + 12 * y);
      for (size_t c = 0; c < 3; ++c) EXPECT_EQ(grey.pixels[(9 * y + x) * 3 + c], 20 + 25 * x);
    }
  }
}

TEST(Decode, EveryTruncationIsAnError) {
  for (const char* hex : {jpeg_hex, progressive_hex, png_hex}) {
    const std::string whole = unhex(hex);
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_EQ(error_of([&] { decode_image(bytes_of(whole.substr(0, size)), "half"); }).substr(0, 5), "half:") << size;
    }
  }
}

TEST(Decode, EveryFlippedBitOfAPngIsAnError) {
  const std::string whole = unhex(png_hex);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    EXPECT_EQ(error_of([&] { decode_image(bytes_of(bad), "bad"); }).substr(0, 4), "bad:") << at;
  }
}

TEST(Decode, TrailingBytesAreHarmless) { EXPECT_EQ(decode_image(bytes_of(unhex(jpeg_hex) + "trailer"), "a").width, 9); }

TEST(Decode, SaysWhatIsWrong) {
  const auto error = [](const std::string& bytes, int64_t limit = default_pixel_limit) {
    return error_of([&] { decode_image(bytes_of(bytes), "x.jpg", limit); });
  };
  EXPECT_EQ(error(""), "x.jpg: the file is empty");
  EXPECT_EQ(error("GIF89a and so on"), "x.jpg: neither a JPEG nor a PNG file");
  EXPECT_EQ(error(unhex(jpeg_hex).substr(0, 600)), "x.jpg: the JPEG is truncated: no end-of-image marker in 600 bytes");
  EXPECT_EQ(error(unhex(jpeg_hex), 53), "x.jpg: 9 x 6 pixels, more than the limit of 53");
  EXPECT_EQ(error(unhex(jpeg_hex), 54), "no error");
  EXPECT_EQ(error(unhex(png_hex).substr(0, 60)), "x.jpg: the PNG is truncated in the chunk at offset 33 of 60 bytes");
  std::string bad = unhex(png_hex);
  bad[50] = static_cast<char>(bad[50] ^ 1);
  EXPECT_EQ(error(bad), "x.jpg: the PNG is corrupt: wrong CRC of the chunk IDAT at offset 33");
  bad = unhex(png_hex);
  bad.replace(37, 4, "JUNK");
  EXPECT_EQ(error(bad), "x.jpg: the PNG has an unknown chunk at offset 33");
  // The first Huffman table gets 255 codes of one bit, which would overrun the decoder's arrays.
  bad = unhex(jpeg_hex);
  const size_t table = bad.find("\xff\xc4");
  bad[table + 5] = '\xff';
  EXPECT_EQ(error(bad), fmt::format("x.jpg: the JPEG is corrupt: impossible Huffman table at offset {}", table));
  // Quantisation table 9 of at most 3.
  bad = unhex(jpeg_hex);
  bad[bad.find("\xff\xdb") + 4] = 9;
  EXPECT_EQ(error(bad), "x.jpg: the image header is corrupt: unknown image type");
}

TEST(Decode, AHeaderThatClaimsGigabytesIsRefusedUnread) {
  std::string huge = unhex(png_hex);
  huge.replace(16, 8, std::string("\0\0\x2e\xe0\0\0\x2e\xe0", 8));
  const uint32_t crc = crc32(bytes_of(huge.substr(12, 17)));
  for (int i = 0; i < 4; ++i) huge[29 + static_cast<size_t>(i)] = static_cast<char>(crc >> (24 - 8 * i));
  EXPECT_EQ(error_of([&] { decode_image(bytes_of(huge), "huge"); }),
            "huge: 12000 x 12000 pixels, more than the limit of 100000000");
}

TEST(LoadImage, NamesThePath) {
  const testing::TemporaryFolder folder;
  testing::write(folder.path / "a.png", unhex(png_hex));
  EXPECT_EQ(load_image(folder.path / "a.png").height, 6);
  EXPECT_EQ(error_of([&] { load_image(folder.path / "none.png"); }),
            "cannot read " + (folder.path / "none.png").string() + ": No such file or directory");
  EXPECT_EQ(error_of([&] { load_image(folder.path); }), folder.path.string() + ": not a regular file");
  testing::write(folder.path / "b.jpg", "text");
  EXPECT_EQ(error_of([&] { load_image(folder.path / "b.jpg"); }),
            (folder.path / "b.jpg").string() + ": neither a JPEG nor a PNG file");
}

// Pillow rounds to 8 bits between its two passes, hence the tolerance of one step.
TEST(Resize, AsPillowDoes) {
  EXPECT_LE(distance(resize(formula_image(37, 50), 4, 5), from_37x50_to_4x5), 1);
  EXPECT_LE(distance(resize(formula_image(2, 3), 5, 7), from_2x3_to_5x7), 1);
  EXPECT_LE(distance(resize(formula_image(3, 40), 5, 7), from_3x40_to_5x7), 1);
}

TEST(Resize, KeepsFlatImagesFlatAndSizesThatFit) {
  for (const uint8_t value : {0, 1, 127, 128, 254, 255}) {
    const Image flat{31, 47, std::vector<uint8_t>(31 * 47 * 3, value)};
    for (const auto& [h, w] : {std::pair{1, 1}, std::pair{32, 32}, std::pair{7, 100}, std::pair{31, 46}}) {
      const Image out = resize(flat, h, w);
      EXPECT_EQ(out.pixels, std::vector<uint8_t>(static_cast<size_t>(h * w * 3), value)) << h << " x " << w;
    }
  }
  EXPECT_EQ(resize(formula_image(5, 6), 5, 6).pixels, formula_image(5, 6).pixels);
}

// A checkerboard of single pixels must become grey: a filter that samples instead of averaging keeps black and white.
TEST(Resize, LargeReductionsAverage) {
  Image board{640, 640, {}};
  for (int64_t y = 0; y < 640; ++y) {
    for (int64_t x = 0; x < 640; ++x) board.pixels.insert(board.pixels.end(), 3, (x + y) % 2 ? 255 : 0);
  }
  for (const uint8_t value : resize(board, 32, 32).pixels) EXPECT_NEAR(value, 127.5, 1.6);
}

TEST(Resize, RefusesEmptySizes) {
  EXPECT_THROW(resize(formula_image(2, 2), 0, 3), std::runtime_error);
  EXPECT_THROW(resize(Image{}, 2, 2), std::runtime_error);
}

}  // namespace
}  // namespace ranvier::data
