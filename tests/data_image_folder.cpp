// Folders of images: order, endings, sizes, import into the binary layout, and every way a folder can be wrong.
#include "data/image_folder.h"

#include <gtest/gtest.h>
#include <omp.h>

#include "data/archive.h"
#include "data/cifar10.h"
#include "tests/support/files.h"

namespace ranvier::data {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::TemporaryFolder;

std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

std::string chunk(const std::string& type, const std::string& content) {
  return big_endian(static_cast<uint32_t>(content.size())) + type + content +
         big_endian(crc32(bytes_of(type + content)));
}

// A PNG of one colour; its zlib stream holds one stored (uncompressed) block.
std::string png(uint32_t width, uint32_t height, uint8_t red, uint8_t green, uint8_t blue) {
  std::string raw;
  for (uint32_t y = 0; y < height; ++y) {
    raw += '\0';
    for (uint32_t x = 0; x < width; ++x)
      raw += {static_cast<char>(red), static_cast<char>(green), static_cast<char>(blue)};
  }
  uint32_t a = 1, b = 0;  // Adler-32
  for (const unsigned char byte : raw) a = (a + byte) % 65521, b = (b + a) % 65521;
  const auto size = static_cast<uint16_t>(raw.size()), inverse = static_cast<uint16_t>(~size);
  const std::string stored = {1, static_cast<char>(size), static_cast<char>(size >> 8), static_cast<char>(inverse),
                              static_cast<char>(inverse >> 8)};
  return "\x89PNG\r\n\x1a\n" +
         chunk("IHDR", big_endian(width) + big_endian(height) + std::string("\x08\x02\0\0\0", 5)) +
         chunk("IDAT", "\x78\x01" + stored + raw + big_endian(b << 16 | a)) + chunk("IEND", "");
}

class Folder : public ::testing::Test {
 protected:
  Folder() {
    add("train/cat/2.png", 32, 20);
    add("train/cat/10.PNG", 32, 10);
    add("train/ant/b.png", 64, 30);
    add("train/bee/c.png", 7, 40);
    add("test/cat/x.png", 32, 50);
    add("test/ant/x.png", 1, 60);
    add("test/bee/x.png", 33, 70);
  }
  void add(const std::string& file, uint32_t size, uint8_t red) {
    testing::write(path(file), png(size, size, red, 100, 200));
  }
  std::filesystem::path path(const std::string& file) const { return folder_.path / file; }
  std::string error() {
    return error_of([&] { image_folder(folder_.path); });
  }
  TemporaryFolder folder_;
};

TEST_F(Folder, SortsClassesAndFilesByName) {
  const Splits splits = image_folder(folder_.path);
  EXPECT_EQ(splits.train.classes, (std::vector<std::string>{"ant", "bee", "cat"}));
  EXPECT_EQ(splits.test.classes, splits.train.classes);
  EXPECT_EQ(splits.train.labels, (std::vector<int32_t>{0, 1, 2, 2}));
  EXPECT_EQ(splits.train.counts(), (std::vector<int64_t>{1, 1, 2}));
  const std::vector<int> reds = {30, 40, 10, 20};
  ASSERT_EQ(splits.train.images.size(), 4u * 3072);
  for (size_t i = 0; i < splits.train.images.size(); i += 3) {
    ASSERT_EQ(splits.train.images[i], reds[i / 3072]);
    ASSERT_EQ(splits.train.images[i + 1], 100);
    ASSERT_EQ(splits.train.images[i + 2], 200);
  }
  EXPECT_FLOAT_EQ(splits.train.mean[0], 25 / 255.0f);
  EXPECT_FLOAT_EQ(splits.train.std[1], 0.0f);
  EXPECT_FLOAT_EQ(splits.test.mean[0], 25 / 255.0f);
}

/// CIFAR-10's own images are not compressed: a folder of JPEG files is not quite that set, and says so.
TEST(ImageFolder, NamesAReencodingByItsEndings) {
  const TemporaryFolder folder;
  const auto name_of = [&](const std::string& ending, const std::vector<std::string>& classes) {
    const std::filesystem::path at = folder.path / (ending + classes[0]);
    for (const std::string& of : classes)
      for (const char* split : {"train", "test"})
        testing::write(at / split / of / ("a" + ending), png(32, 32, 1, 2, 3));
    return image_folder(at).train.name;
  };
  EXPECT_EQ(name_of(".jpg", cifar10_classes()), "CIFAR-10 (image folder, JPEG re-encoding)");
  EXPECT_EQ(name_of(".png", cifar10_classes()), "CIFAR-10 (image folder)");
  EXPECT_EQ(name_of(".JPEG", {"ant", "bee"}), ".JPEGant (image folder)");
}

TEST_F(Folder, OtherSizesOnRequest) {
  const Splits splits = image_folder(folder_.path, 5, 9);
  EXPECT_EQ(splits.train.height, 5);
  EXPECT_EQ(splits.train.width, 9);
  EXPECT_EQ(splits.train.images.size(), 4u * 5 * 9 * 3);
}

TEST_F(Folder, PassesOverOtherFilesAndHiddenNames) {
  testing::write(path("train/cat/notes.txt"), "text");
  testing::write(path("train/cat/._2.png"), "left by a file manager");
  testing::write(path("train/cat/sub/x.png"), "deeper");
  testing::write(path("train/README.md"), "text");
  testing::write(path("train/.cache/x.png"), "hidden");
  std::filesystem::create_directory(path("train/cat/folder.png"));
  EXPECT_EQ(image_folder(folder_.path).train.size(), 4);
}

TEST_F(Folder, ThreadsDoNotMatter) {
  for (int i = 0; i < 200; ++i)
    add("train/ant/more" + std::to_string(i) + ".png", 20 + static_cast<uint32_t>(i % 30), static_cast<uint8_t>(i));
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const Splits one = image_folder(folder_.path);
  omp_set_num_threads(3);
  const Splits three = image_folder(folder_.path);
  omp_set_num_threads(threads);
  EXPECT_EQ(one.train.images, three.train.images);
  EXPECT_EQ(one.train.size(), 204);
}

TEST_F(Folder, ImportWritesTheBinaryLayoutWithMixedClasses) {
  for (int i = 0; i < 40; ++i) add("train/bee/" + std::to_string(i) + ".png", 32, static_cast<uint8_t>(i));
  const Splits imported = import_image_folder(folder_.path, path("out")), read = cifar10(path("out"));
  EXPECT_EQ(read.train.images, imported.train.images);
  EXPECT_EQ(read.train.labels, imported.train.labels);
  EXPECT_EQ(read.test.images, image_folder(folder_.path).test.images);
  EXPECT_EQ(read.train.counts(), (std::vector<int64_t>{1, 41, 2}));
  EXPECT_EQ(read.train.mean, image_folder(folder_.path).train.mean);
  EXPECT_FALSE(std::is_sorted(read.train.labels.begin(), read.train.labels.end()));
}

TEST_F(Folder, CorruptImageOfSeveralTheFirst) {
  testing::write(path("train/cat/10.PNG"), "\xff\xd8\xff no image");
  testing::write(path("train/cat/2.png"), "text");
  EXPECT_EQ(error(), path("train/cat/10.PNG").string() + ": the JPEG is truncated: no end-of-image marker in 12 bytes");
  add("train/cat/10.PNG", 32, 1);
  EXPECT_EQ(error(), path("train/cat/2.png").string() + ": neither a JPEG nor a PNG file");
  testing::write(path("train/cat/2.png"), "");
  EXPECT_EQ(error(), path("train/cat/2.png").string() + ": the file is empty");
}

TEST_F(Folder, EmptyClass) {
  std::filesystem::remove(path("train/bee/c.png"));
  testing::write(path("train/bee/c.gif"), "GIF89a");
  EXPECT_EQ(error(), path("train/bee").string() + ": class 'bee' is empty: no .jpg, .jpeg or .png file in it");
}

TEST_F(Folder, ClassesThatDiffer) {
  add("test/dog/x.png", 32, 1);
  EXPECT_EQ(error(), path("test/dog").string() + ": class 'dog' has no training images");
  std::filesystem::remove_all(path("test/ant"));
  EXPECT_EQ(error(), path("test").string() + ": class 'ant' of the training images is missing");
}

TEST_F(Folder, MissingFolders) {
  std::filesystem::remove_all(path("test"));
  EXPECT_EQ(error(), folder_.path.string() +
                         ": no folder 'test' in it (an image folder holds train/<class>/*.jpg or *.png and "
                         "test/<class>/...)");
  std::filesystem::remove_all(path("train"));
  EXPECT_NE(error().find("no folder 'train'"), std::string::npos);
}

TEST_F(Folder, OneClassIsNotEnough) {
  std::filesystem::remove_all(path("train/ant"));
  std::filesystem::remove_all(path("train/bee"));
  EXPECT_EQ(error(), path("train").string() + ": 1 class folders, at least 2 are needed");
}

// All 60,000 images, when they are there: counts and statistics of CIFAR-10. The tolerances allow the JPEG re-encoding.
TEST(RealCifar10, CountsAndStatistics) {
  const char* folder = std::getenv("RANVIER_DATA");
  if (!folder || !*folder) GTEST_SKIP() << "skipped: RANVIER_DATA is not set";
  const std::filesystem::path path = folder;
  const Splits splits = std::filesystem::is_directory(path / "train") ? image_folder(path) : cifar10(path);
  EXPECT_EQ(splits.train.classes, cifar10_classes());
  EXPECT_EQ(splits.train.counts(), std::vector<int64_t>(10, 5000));
  EXPECT_EQ(splits.test.counts(), std::vector<int64_t>(10, 1000));
  const std::array<float, 3> mean = {0.4913f, 0.4821f, 0.4465f}, deviation = {0.2452f, 0.2428f, 0.2606f};
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(splits.train.mean[c], mean[c], 6e-4);
    EXPECT_NEAR(splits.train.std[c], deviation[c], 2.5e-3);
  }
}

}  // namespace
}  // namespace ranvier::data
