// MD5 against the vectors of RFC 1321 and digests from another implementation.
#include "data/md5.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace ranvier::data {
namespace {

std::string of(const std::string& text) { return md5({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

TEST(Md5, VectorsOfRfc1321) {
  EXPECT_EQ(of(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(of("a"), "0cc175b9c0f1b6a831c399e269772661");
  EXPECT_EQ(of("abc"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(of("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
  EXPECT_EQ(of("abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b");
  EXPECT_EQ(of("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
            "57edf4a22be3c955ac49da2e2107b67a");
}

// The lengths around which padding changes shape; digests of that many times 'x' by Python's hashlib.
TEST(Md5, LengthsAroundABlock) {
  EXPECT_EQ(of(std::string(55, 'x')), "04364420e25c512fd958a70738aa8f72");
  EXPECT_EQ(of(std::string(56, 'x')), "668a72d5ba17f08e62dabcafad6db14b");
  EXPECT_EQ(of(std::string(63, 'x')), "7dc2ca208106a2f703567bdff99d8981");
  EXPECT_EQ(of(std::string(64, 'x')), "c1bb4f81d892b2d57947682aeb252456");
  EXPECT_EQ(of(std::string(65, 'x')), "1bc932052302d074bdec39795fe00cf6");
  EXPECT_EQ(of(std::string(119, 'x')), "ab347a5f68c8a443cfcddc633f12c24f");
  EXPECT_EQ(of(std::string(120, 'x')), "fb98667f98096de92620b64f46e1c5b5");
}

TEST(Md5, PiecesMakeTheSameDigest) {
  const std::string text(1000, 'y');
  Md5 digest;
  size_t done = 0;
  for (size_t piece = 1; done < text.size(); ++piece) {
    const size_t count = std::min(piece, text.size() - done);
    digest.update({reinterpret_cast<const uint8_t*>(text.data()) + done, count});
    done += count;
  }
  EXPECT_EQ(digest.hex(), of(text));
}

TEST(Md5, FilesAndMissingFiles) {
  const auto path = std::filesystem::temp_directory_path() / "ranvier_md5_test";
  std::ofstream(path) << "abc";
  EXPECT_EQ(md5_file(path), "900150983cd24fb0d6963f7d28e17f72");
  std::filesystem::remove(path);
  EXPECT_THROW(md5_file(path), std::runtime_error);
}

}  // namespace
}  // namespace ranvier::data
