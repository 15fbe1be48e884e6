// The binary release: layout byte by byte, round trips, the archive, and every way a file can be wrong.
#include "data/cifar10.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>

#include "data/archive.h"
#include "data/generated.h"
#include "data/process.h"
#include "tests/support/files.h"

namespace ranvier::data {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::TemporaryFolder;

std::string record(uint8_t label, uint8_t first) {
  std::string bytes(1, static_cast<char>(label));
  for (int i = 0; i < 3072; ++i) bytes += static_cast<char>(first + 7 * i + i / 1024);
  return bytes;
}

constexpr const char* ten_classes = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

// A small release: `counts.txt` says how many records each batch has.
void write_small(const std::filesystem::path& folder) {
  std::string counts;
  for (int b = 1; b <= 5; ++b) {
    const std::string file = fmt::format("data_batch_{}.bin", b);
    testing::write(folder / file, record(static_cast<uint8_t>(b), static_cast<uint8_t>(b)) + record(0, 3));
    counts += file + " 2\n";
  }
  testing::write(folder / "test_batch.bin", record(9, 200));
  testing::write(folder / "counts.txt", counts + "test_batch.bin 1\n");
  testing::write(folder / "batches.meta.txt", ten_classes);
}

TEST(Cifar10, PlanesBecomePixels) {
  const TemporaryFolder folder;
  write_small(folder.path);
  const Splits splits = cifar10(folder.path);
  EXPECT_EQ(splits.train.name, "CIFAR-10");
  EXPECT_EQ(splits.train.classes, cifar10_classes());
  ASSERT_EQ(splits.train.size(), 10);
  ASSERT_EQ(splits.test.size(), 1);
  EXPECT_EQ(splits.train.labels, (std::vector<int32_t>{1, 0, 2, 0, 3, 0, 4, 0, 5, 0}));
  EXPECT_EQ(splits.test.labels, (std::vector<int32_t>{9}));
  for (const int64_t image : {0, 3, 8}) {
    const int first = image % 2 ? 3 : static_cast<int>(image / 2 + 1);
    for (int y = 0; y < 32; ++y) {
      for (int x = 0; x < 32; ++x) {
        for (int c = 0; c < 3; ++c) {
          const int i = 1024 * c + 32 * y + x;
          ASSERT_EQ(splits.train.image(image)[static_cast<size_t>((32 * y + x) * 3 + c)],
                    static_cast<uint8_t>(first + 7 * i + c));
        }
      }
    }
  }
}

TEST(Cifar10, StatisticsAreThoseOfTheTrainingPixels) {
  const TemporaryFolder folder;
  write_small(folder.path);
  const Splits splits = cifar10(folder.path);
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (size_t i = c; i < splits.train.images.size(); i += 3) sum += splits.train.images[i] / 255.0;
    const double count = static_cast<double>(splits.train.images.size()) / 3, mean = sum / count;
    for (size_t i = c; i < splits.train.images.size(); i += 3) {
      squares += std::pow(splits.train.images[i] / 255.0 - mean, 2);
    }
    EXPECT_NEAR(splits.train.mean[c], mean, 1e-6);
    EXPECT_NEAR(splits.train.std[c], std::sqrt(squares / count), 1e-6);
  }
  EXPECT_EQ(splits.test.mean, splits.train.mean);
  EXPECT_EQ(splits.test.std, splits.train.std);
  EXPECT_EQ(cifar10(folder.path, Split::test).mean, splits.train.mean);
  EXPECT_EQ(cifar10(folder.path, Split::test).images, splits.test.images);
  EXPECT_EQ(cifar10(folder.path, Split::train).labels, splits.train.labels);
}

TEST(Cifar10, WritesWhatItReads) {
  const TemporaryFolder folder;
  const Splits made = generated({.seed = 3, .train_per_class = 2, .test_per_class = 1});
  write_cifar10(folder.path / "deep" / "er", made);
  const Splits read = cifar10(folder.path / "deep" / "er");
  EXPECT_EQ(read.train.images, made.train.images);
  EXPECT_EQ(read.train.labels, made.train.labels);
  EXPECT_EQ(read.test.images, made.test.images);
  EXPECT_EQ(read.test.labels, made.test.labels);
  EXPECT_EQ(read.train.classes, made.train.classes);
  EXPECT_EQ(read.train.mean, made.train.mean);
  EXPECT_EQ(testing::read(folder.path / "deep" / "er" / "data_batch_1.bin").size(), 4 * 3073u);
  EXPECT_EQ(testing::read(folder.path / "deep" / "er" / "batches.meta.txt").substr(0, 17), "stripes\ncheckers\n");
}

TEST(Cifar10, FullSizeNeedsNoCounts) {
  const TemporaryFolder folder;
  Splits made;
  made.train.classes = made.test.classes = cifar10_classes();
  made.train.labels.assign(50'000, 4);
  made.train.images.assign(50'000 * 3072, 17);
  made.test.labels.assign(10'000, 5);
  made.test.images.assign(10'000 * 3072, 18);
  testing::write(folder.path / "counts.txt", "data_batch_1.bin 1\n");  // of an earlier, smaller set
  write_cifar10(folder.path, made);
  EXPECT_FALSE(std::filesystem::exists(folder.path / "counts.txt"));
  EXPECT_EQ(std::filesystem::file_size(folder.path / "data_batch_5.bin"), 30'730'000u);
  EXPECT_EQ(cifar10(folder.path).train.size(), 50'000);
  std::filesystem::resize_file(folder.path / "data_batch_2.bin", 30'730'000 + 3073);
  EXPECT_EQ(error_of([&] { cifar10(folder.path); }),
            (folder.path / "data_batch_2.bin").string() +
                ": 3073 bytes too many from offset 30730000: 10000 records of 3073 bytes make 30730000 bytes");
}

TEST(Cifar10, RefusesToWriteWhatDoesNotFit) {
  const TemporaryFolder folder;
  Splits made = generated({.train_per_class = 1, .test_per_class = 1});
  made.test.height = 16;
  made.test.width = 64;
  EXPECT_THROW(write_cifar10(folder.path, made), std::runtime_error);
  made = generated({.train_per_class = 1, .test_per_class = 1});
  made.train.classes[0] = "two\nlines";
  EXPECT_THROW(write_cifar10(folder.path, made), std::runtime_error);
  testing::write(folder.path / "file", "x");
  made = generated({.train_per_class = 1, .test_per_class = 1});
  const std::string error = error_of([&] { write_cifar10(folder.path / "file", made); });
  EXPECT_EQ(error, "cannot create folder " + (folder.path / "file").string() + ": Not a directory");
}

TEST(Cifar10, AFullDiskNamesTheFileAndKeepsTheOldOne) {
  const TemporaryFolder folder;
  write_small(folder.path);
  const std::string before = testing::read(folder.path / "data_batch_1.bin");
  const Splits made = generated({.train_per_class = 5, .test_per_class = 1});
  // A limit on the size of files fails a write in the middle, as a full disk does.
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{10'000, old.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = error_of([&] { write_cifar10(folder.path, made); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error, "cannot write " + (folder.path / "data_batch_1.bin").string() + ": File too large");
  EXPECT_EQ(testing::read(folder.path / "data_batch_1.bin"), before);
  EXPECT_FALSE(std::filesystem::exists(folder.path / "data_batch_1.bin.part"));
}

class BadCifar10 : public ::testing::Test {
 protected:
  BadCifar10() { write_small(folder_.path); }
  std::string error() {
    return error_of([&] { cifar10(folder_.path); });
  }
  std::string path(const std::string& file) { return (folder_.path / file).string(); }
  TemporaryFolder folder_;
};

TEST_F(BadCifar10, Truncated) {
  std::filesystem::resize_file(path("data_batch_3.bin"), 3073 + 100);
  EXPECT_EQ(error(), path("data_batch_3.bin") +
                         ": truncated at offset 3173 in record 1: 2 records of 3073 bytes make 6146 bytes");
}

TEST_F(BadCifar10, Oversized) {
  testing::write(path("test_batch.bin"), record(1, 1) + "x");
  EXPECT_EQ(error(),
            path("test_batch.bin") + ": 1 bytes too many from offset 3073: 1 records of 3073 bytes make 3073 bytes");
}

TEST_F(BadCifar10, WithoutCountsABatchHasTenThousandRecords) {
  std::filesystem::remove(path("counts.txt"));
  EXPECT_EQ(error(), path("data_batch_1.bin") +
                         ": truncated at offset 6146 in record 2: 10000 records of 3073 bytes make 30730000 bytes");
}

TEST_F(BadCifar10, WrongLabel) {
  testing::write(path("data_batch_4.bin"), record(9, 1) + record(10, 1));
  EXPECT_EQ(error(), path("data_batch_4.bin") + ": label 10 at offset 3073 (record 1), expected 0 to 9");
}

TEST_F(BadCifar10, MissingFiles) {
  std::filesystem::remove(path("data_batch_5.bin"));
  EXPECT_EQ(error(), folder_.path.string() + ": data_batch_5.bin is missing");
  std::filesystem::remove(path("batches.meta.txt"));
  EXPECT_EQ(error(), folder_.path.string() + ": batches.meta.txt is missing");
}

TEST_F(BadCifar10, ClassNames) {
  testing::write(path("batches.meta.txt"), "one\ntwo\none\n");
  EXPECT_EQ(error(), path("batches.meta.txt") + ": class 'one' is named twice");
  testing::write(path("batches.meta.txt"), "\n\n");
  EXPECT_EQ(error(), path("batches.meta.txt") + ": 0 class names, expected 2 to 256");
}

TEST_F(BadCifar10, Counts) {
  testing::write(path("counts.txt"), "data_batch_1.bin 2\ndata_batch_2.bin -4\n");
  EXPECT_EQ(error(), path("counts.txt") + ": line 2 is not '<file> <records>'");
  testing::write(path("counts.txt"), "data_batch_1.bin 99999999999999999999\n");
  EXPECT_EQ(error(), path("counts.txt") + ": line 1 is not '<file> <records>'");
}

TEST_F(BadCifar10, ABatchThatIsAFolder) {
  std::filesystem::remove(path("data_batch_1.bin"));
  std::filesystem::create_directory(path("data_batch_1.bin"));
  EXPECT_EQ(error(), path("data_batch_1.bin") + ": not a regular file");
}

TEST_F(BadCifar10, NothingThere) {
  const TemporaryFolder empty;
  EXPECT_EQ(error_of([&] { cifar10(empty.path); }),
            empty.path.string() + ": no CIFAR-10 batch in it (data_batch_1.bin and so on)");
}

// The archive is made by the system's tar and gzip, so that our reader is not tested against itself.
class Archive : public ::testing::Test {
 protected:
  Archive() {
    write_small(folder_.path / "cifar-10-batches-bin");
    archive_ = folder_.path / "cifar-10-binary.tar.gz";
    const ProcessResult tar =
        run_program({"tar", "--format=ustar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C",
                     folder_.path.string(), "-czf", archive_.string(), "cifar-10-batches-bin"},
                    true);
    if (tar.status != 0) throw std::runtime_error("tar failed");
    bytes_ = testing::read(archive_);
  }
  std::string error(const std::string& bytes) {
    return error_of([&] { parse_cifar10_archive(bytes_of(bytes), "a.tar.gz"); });
  }
  TemporaryFolder folder_;
  std::filesystem::path archive_;
  std::string bytes_;
};

TEST_F(Archive, GivesWhatTheFolderGives) {
  const Splits packed = cifar10(archive_), plain = cifar10(folder_.path);
  EXPECT_EQ(packed.train.images, plain.train.images);
  EXPECT_EQ(packed.test.labels, plain.test.labels);
  EXPECT_EQ(packed.train.classes, plain.train.classes);
  EXPECT_EQ(packed.source, archive_.string());
}

TEST_F(Archive, GnuAndPosixFormatsTooAndGzipHeadersWithAName) {
  for (const char* format : {"--format=gnu", "--format=posix", "--format=v7"}) {
    const auto tar = folder_.path / "x.tar";
    ASSERT_EQ(
        run_program({"tar", format, "-C", folder_.path.string(), "-cf", tar.string(), "cifar-10-batches-bin"}, true)
            .status,
        0);
    ASSERT_EQ(run_program({"gzip", "-f", "-9", tar.string()}, true).status, 0);
    EXPECT_EQ(cifar10(folder_.path / "x.tar.gz").train.size(), 10) << format;
  }
}

// The last symbol of the stream falls on every bit of a byte as the text grows.
TEST_F(Archive, GunzipOfManyLengths) {
  std::string text;
  for (int length = 0; length < 60; ++length) {
    const auto file = folder_.path / "text";
    testing::write(file, text);
    ASSERT_EQ(run_program({"gzip", "-kf", file.string()}, true).status, 0);
    const std::vector<uint8_t> out = gunzip(bytes_of(testing::read(file.string() + ".gz")), "text.gz");
    EXPECT_EQ(std::string(out.begin(), out.end()), text);
    text += static_cast<char>('a' + length * length % 26);
  }
}

TEST_F(Archive, AnyTruncationIsNoticed) {
  for (size_t size = 0; size < bytes_.size(); size += size < 64 ? 1 : 97) {
    EXPECT_EQ(error(bytes_.substr(0, size)).substr(0, 9), "a.tar.gz:") << size;
  }
}

// Deflate can say one text in several ways (a copy from elsewhere in a repeating one), and then a flipped bit does no
// harm: it is noticed, or not a byte has changed.
TEST_F(Archive, AnyFlippedBitOfTheDataIsNoticed) {
  const std::vector<uint8_t> whole = gunzip(bytes_of(bytes_), "a.tar.gz");
  int flips = 0, harmless = 0;
  for (size_t at = 10; at < bytes_.size(); at += 61) {
    if (at + 9 == bytes_.size()) continue;  // the stream's last byte ends in padding that says nothing
    std::string bad = bytes_;
    bad[at] = static_cast<char>(bad[at] ^ 16);
    const std::string what = error(bad);
    ++flips;
    if (what == "no error") {
      ++harmless;
      EXPECT_EQ(gunzip(bytes_of(bad), "a.tar.gz"), whole) << at;
    } else {
      EXPECT_EQ(what.substr(0, 9), "a.tar.gz:") << at;
    }
  }
  EXPECT_LT(20 * harmless, flips);
}

TEST_F(Archive, AHostileLengthTakesNoMemory) {
  std::string bad = bytes_;
  bad.replace(bad.size() - 4, 4, "\xff\xff\xff\x3f");
  EXPECT_NE(error(bad).find("truncated or corrupt"), std::string::npos);
}

TEST_F(Archive, OtherFilesAreRefused) {
  EXPECT_EQ(error("hello, this is text"), "a.tar.gz: not a gzip file");
  EXPECT_EQ(error(""), "a.tar.gz: not a gzip file");
  EXPECT_EQ(error("\x1f\x8b\x08"), "a.tar.gz: the gzip file is truncated at offset 3");
}

TEST_F(Archive, WrongContentsNameTheInnerFile) {
  testing::write(folder_.path / "cifar-10-batches-bin" / "data_batch_2.bin", record(1, 1) + record(77, 1));
  ASSERT_EQ(
      run_program({"tar", "-C", folder_.path.string(), "-czf", archive_.string(), "cifar-10-batches-bin"}, true).status,
      0);
  EXPECT_EQ(error_of([&] { cifar10(archive_); }),
            archive_.string() +
                ":cifar-10-batches-bin/data_batch_2.bin: label 77 at offset 3073 (record 1), expected 0 to 9");
}

TEST(Tar, HeadersAreChecked) {
  std::string tar(1536, '\0');
  const auto error = [&] { return error_of([&] { tar_files(bytes_of(tar), "t"); }); };
  EXPECT_EQ(error(), "no error");
  tar[0] = 'x';
  EXPECT_EQ(error(), "t: corrupt tar header at offset 0");
  EXPECT_EQ(error_of([&] { tar_files({}, "t"); }), "t: the tar archive is truncated at offset 0");
  // A header that is right except that its file reaches beyond the end.
  tar.replace(124, 12, "00000010000\0", 12);
  uint32_t sum = 8 * ' ';
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(tar[i]);
  tar.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  EXPECT_EQ(error(), "t: 'x' at offset 512 has 4096 bytes, but the archive ends at 1536");
}

TEST(Crc32, KnownAnswers) {
  EXPECT_EQ(crc32(bytes_of("")), 0u);
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xCBF43926u);
  EXPECT_EQ(crc32(bytes_of("The quick brown fox jumps over the lazy dog")), 0x414FA339u);
}

}  // namespace
}  // namespace ranvier::data
