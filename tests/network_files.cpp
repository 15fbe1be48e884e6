// Files of networks and populations: SONATA edges and spikes in HDF5 made here, records within their bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#if defined(RANVIER_HAS_HDF5)
#include <hdf5.h>
#endif

#include "models/neurons/connectivity.h"
#include "models/neurons/files.h"
#include "models/neurons/network_keys.h"
#include "models/neurons/networks.h"
#include "models/neurons/recorder.h"
#include "tests/support/errors.h"

namespace ranvier::neuron {
namespace {

using test::error_of;
using testing::HasSubstr;

/// A folder of this process, empty at first.
struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("ranvier-network-files-{}", getpid());
  Folder() { std::filesystem::remove_all(path), std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string at(const char* name) const { return (path / name).string(); }
};

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

#if defined(RANVIER_HAS_HDF5)
/// Columns of an HDF5 file: by the full name, groups made as needed.
class Hdf5File {
 public:
  explicit Hdf5File(const std::string& path)
      : file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)), links_(H5Pcreate(H5P_LINK_CREATE)) {
    H5Pset_create_intermediate_group(links_, 1);
  }
  ~Hdf5File() { H5Pclose(links_), H5Fclose(file_); }
  template <class T>
  Hdf5File& add(const char* name, const std::vector<T>& values) {
    const hid_t type = std::is_same_v<T, double>  ? H5T_NATIVE_DOUBLE
                       : std::is_same_v<T, float> ? H5T_NATIVE_FLOAT
                                                  : H5T_NATIVE_INT64;
    const hsize_t n = values.size();
    const hid_t space = H5Screate_simple(1, &n, nullptr);
    const hid_t set = H5Dcreate2(file_, name, type, space, links_, H5P_DEFAULT, H5P_DEFAULT);
    if (n) H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(set), H5Sclose(space);
    return *this;
  }

 private:
  hid_t file_, links_;
};

template <class T>
std::vector<T> column(const std::string& path, const char* name) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), set = H5Dopen2(file, name, H5P_DEFAULT);
  const hid_t space = H5Dget_space(set);
  std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
  H5Dread(set, std::is_same_v<T, double> ? H5T_NATIVE_DOUBLE : H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT,
          values.data());
  H5Sclose(space), H5Dclose(set), H5Fclose(file);
  return values;
}

ConnectSpec three_to_four() {
  ConnectSpec c;
  c.name = "list", c.sources = 3, c.targets = 4, c.dt = 0.5;
  return c;
}

TEST(SonataEdges, AreRead) {
  const Folder folder;
  const std::string path = folder.at("edges.h5");
  using Ids = std::vector<int64_t>;
  {
    Hdf5File file(path);
    file.add("/edges/a_to_b/source_node_id", Ids{2, 0, 2}).add("/edges/a_to_b/target_node_id", Ids{0, 3, 1});
    file.add("/edges/a_to_b/0/syn_weight", std::vector<float>{1.5f, 0.5f, -1})
        .add("/edges/a_to_b/0/delay", std::vector<double>{2, 1, 0.5});
  }
  for (const char* name : {"", "a_to_b"}) {
    const Connections x = read_edges_sonata(path, name, three_to_four());
    EXPECT_EQ(x.offset, (std::vector<uint64_t>{0, 1, 1, 3}));
    EXPECT_EQ(x.target, (std::vector<uint32_t>{3, 1, 0}));
    EXPECT_EQ(x.weight, (std::vector<float>{0.5f, -1, 1.5f}));
    EXPECT_EQ(x.delay, (std::vector<uint16_t>{2, 1, 4}));
  }
  EXPECT_THAT(error_of([&] { read_edges_sonata(path, "other", three_to_four()); }), HasSubstr("other/source_node_id"));
}

TEST(SonataEdges, ConstantsStandInForColumns) {
  const Folder folder;
  const std::string path = folder.at("edges.h5");
  Hdf5File(path)
      .add("/edges/e/source_node_id", std::vector<int64_t>{1})
      .add("/edges/e/target_node_id", std::vector<int64_t>{2});
  ConnectSpec c = three_to_four();
  c.weight.a = 7, c.delay.a = 1.5;
  const Connections x = read_edges_sonata(path, "", c);
  EXPECT_EQ(x.weight, std::vector<float>{7});
  EXPECT_EQ(x.delay, std::vector<uint16_t>{3});
  c.weight.kind = Draw::Kind::uniform;
  EXPECT_THAT(error_of([&] { read_edges_sonata(path, "", c); }), HasSubstr("syn_weight"));
}

TEST(SonataEdges, BadOnesAreRefusedByRow) {
  const Folder folder;
  const std::string path = folder.at("edges.h5");
  using Ids = std::vector<int64_t>;
  const auto error = [&](const Ids& sources, const Ids& targets, const std::vector<double>& delays) {
    Hdf5File(path)
        .add("/edges/e/source_node_id", sources)
        .add("/edges/e/target_node_id", targets)
        .add("/edges/e/0/delay", delays);
    return error_of([&] { read_edges_sonata(path, "", three_to_four()); });
  };
  EXPECT_EQ(error({0}, {0}, {1}), "no error");
  EXPECT_THAT(error({0, 3}, {0, 1}, {1, 1}), HasSubstr("row 1: 3 to 1, of 3 and 4 neurons"));
  EXPECT_THAT(error({0, 1}, {0, 4}, {1, 1}), HasSubstr("row 1: 1 to 4"));
  EXPECT_THAT(error({-1}, {0}, {1}), HasSubstr("row 0: -1 to 0"));
  EXPECT_THAT(error({0, 1, 0}, {2, 2, 2}, {1, 1, 1}), HasSubstr(":2: 0 to 2 was there already"));
  EXPECT_THAT(error({0}, {0}, {0.1}), HasSubstr("is under one step of 0.5 ms"));
  EXPECT_THAT(error({0, 1}, {0}, {1, 1}), HasSubstr("2 sources and 1 targets"));
  EXPECT_THAT(error({0, 1}, {0, 1}, {1}), HasSubstr("1 delays"));
  Hdf5File(path).add("/nodes/e/id", Ids{1});
  EXPECT_THAT(error_of([&] { read_edges_sonata(path, "", three_to_four()); }), HasSubstr("no SONATA edge file"));
  std::ofstream(path) << "text";
  EXPECT_THAT(error_of([&] { read_edges_sonata(path, "", three_to_four()); }), HasSubstr("is no HDF5 file"));
}

// The format lets edge i have its attributes in row edge_group_index[i] of group edge_group_id[i].
TEST(SonataEdges, OtherOrdersAndGroupsAreRefused) {
  const Folder folder;
  const std::string path = folder.at("edges.h5");
  using Ids = std::vector<int64_t>;
  const auto error = [&](const Ids& group, const Ids& index, bool second = false) {
    {
      Hdf5File file(path);
      file.add("/edges/e/source_node_id", Ids{0, 1}).add("/edges/e/target_node_id", Ids{0, 1});
      file.add("/edges/e/0/syn_weight", std::vector<double>{0, 500});
      if (second) file.add("/edges/e/1/syn_weight", std::vector<double>{1});
      file.add("/edges/e/edge_group_id", group).add("/edges/e/edge_group_index", index);
    }
    return error_of([&] { read_edges_sonata(path, "", three_to_four()); });
  };
  EXPECT_EQ(error({0, 0}, {0, 1}), "no error");
  EXPECT_THAT(error({0, 0}, {1, 0}), HasSubstr("/edges/e/edge_group_index is 1 in row 0"));
  EXPECT_THAT(error({0, 1}, {0, 1}), HasSubstr("/edges/e/edge_group_id is 1 in row 1"));
  EXPECT_THAT(error({0, 0}, {0, 1}, true), HasSubstr("a second group of attributes"));
  EXPECT_THAT(error({0}, {0, 1}), HasSubstr("edge_group_id has 1 rows for 2 edges"));
  EXPECT_EQ(edges_in_sonata(path, "e"), 2u);
}

TEST(SonataEdges, WhatTheListHasIsNotSaidTwice) {
  const Folder folder;
  const std::string path = folder.at("edges.h5");
  Hdf5File(path)
      .add("/edges/e/source_node_id", std::vector<int64_t>{1})
      .add("/edges/e/target_node_id", std::vector<int64_t>{2})
      .add("/edges/e/0/syn_weight", std::vector<double>{3});
  ConnectSpec c = three_to_four();
  c.weight_given = true;
  EXPECT_THAT(error_of([&] { read_edges_sonata(path, "", c); }), HasSubstr("has the column syn_weight"));
}

TEST(SonataSpikes, AreAppendedInPieces) {
  const Folder folder;
  RecordPlan plan;
  plan.folder = folder.path.string(), plan.populations = {{"exc", 5}, {"inh", 2}}, plan.named = true, plan.memory = 100;
  plan.attributes = {{"mode", "accurate"}, {"solver", "rk4"}};
  {
    PopulationRecorder recorder(plan);
    EXPECT_FALSE(std::filesystem::exists(folder.at("spikes.h5")));
    for (int i = 0; i < 1000; ++i) {
      recorder.spike(i % 3 == 0, static_cast<uint32_t>(i % 2), 0.25 * i);
      ASSERT_TRUE(recorder.settle());
    }
    recorder.finish({std::vector<int64_t>(5), std::vector<int64_t>(2)}, 250);
  }
  const auto ids = column<uint64_t>(folder.at("spikes.h5"), "/spikes/inh/node_ids");
  const auto times = column<double>(folder.at("spikes.h5"), "/spikes/inh/timestamps");
  ASSERT_EQ(ids.size(), 334u);
  EXPECT_EQ(column<double>(folder.at("spikes.h5"), "/spikes/exc/timestamps").size(), 666u);
  for (size_t k = 0; k < ids.size(); ++k) {
    EXPECT_EQ(ids[k], 3 * k % 2);
    EXPECT_EQ(times[k], 0.75 * static_cast<double>(k));
  }
}
#endif

TEST(SonataSpikes, ALimitHoldsWithItsOverhead) {
  const Folder folder;
  RecordPlan plan;
  plan.folder = folder.path.string(), plan.populations = {{"cells", 3}}, plan.csv = plan.npy = false;
  plan.memory = 1000, plan.disk = 100000;
  PopulationRecorder recorder(plan);
  int recorded = 0;
  do recorder.spike(0, 1, ++recorded);
  while (recorder.settle() && recorded < 1000000);
  recorder.finish({{0, recorded, 0}}, 1);
  EXPECT_GT(recorded, 3000);
  EXPECT_LT(std::filesystem::file_size(folder.at("spikes.h5")), 103000u);
}

TEST(SonataSpikes, NothingStaysOfAFileThatCannotBeMade) {
  const Folder folder;
  RecordPlan plan;
  plan.folder = folder.path.string(), plan.populations = {{"a/b", 3}}, plan.csv = plan.npy = false;
  EXPECT_THAT(error_of([&] { PopulationRecorder{plan}; }), HasSubstr("spikes.h5"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
}

TEST(PopulationRecorder, StaysWithinMemoryAndSaysWhatItWrote) {
  const Folder folder;
  RecordPlan plan;
  plan.folder = folder.path.string(), plan.populations = {{"cells", 3}};
  plan.chosen = {{0, 1}}, plan.means = true, plan.hdf5 = false, plan.memory = 4000, plan.duration = 100;
  PopulationRecorder recorder(plan);
  EXPECT_THAT(recorder.bill(), HasSubstr("at most 0.004 MB in memory"));
  for (int k = 1; k <= 1000; ++k) {
    recorder.spike(0, 2, 0.1 * k);
    recorder.trace(0.1 * k, {{-60.5 + k, 1.0 / k}});
    if (k % 10 == 0) recorder.rates(0.1 * k, {33}, {{-60, 2}});
    ASSERT_TRUE(recorder.settle());
  }
  EXPECT_LT(recorder.most_waiting(), 4000u + 200);
  EXPECT_GT(recorder.written(), 20000u);
  recorder.finish({{0, 0, 1000}}, 100);
  const Trace trace = read_trace(folder.at("traces.npy"));
  ASSERT_EQ(trace.t.size(), 1000u);
  EXPECT_EQ(trace.v[999], -60.5 + 1000);
  EXPECT_EQ(read_trace(folder.at("traces.csv")).u, trace.u);
  EXPECT_EQ(read_array(folder.at("rates.npy")).rows, 100u);
  EXPECT_EQ(read_array(folder.at("counts.npy")).values, (std::vector<double>{0, 0, 1000}));
  EXPECT_EQ(text_of(folder.at("counts.csv")), "neuron,spikes,rate_hz\n0,0,0\n1,0,0\n2,1000,10000\n");
}

TEST(PopulationRecorder, KeepsWhatFitsOnTheDisk) {
  const Folder folder;
  RecordPlan plan;
  plan.folder = folder.path.string(), plan.populations = {{"cells", 3}}, plan.hdf5 = false, plan.npy = false;
  plan.memory = 1000, plan.disk = 20000;
  PopulationRecorder recorder(plan);
  int recorded = 0;
  do recorder.spike(0, 1, ++recorded);
  while (recorder.settle() && recorded < 100000);
  EXPECT_GT(recorded, 300);
  EXPECT_LT(recorded, 1000);
  recorder.finish({{0, recorded, 0}}, 1);
  const std::string text = text_of(folder.at("spikes.csv"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), recorded + 1);
  EXPECT_LT(text.size(), 21000u);
  plan.folder = folder.at("none");
  EXPECT_THAT(error_of([&] { PopulationRecorder{plan}; }), HasSubstr("none"));
}

// Lists are billed before they are read.
TEST(NetworkFiles, ListsAreInTheBill) {
  const Folder folder;
  std::ofstream(folder.at("list.csv")) << "source,target\n"
                                       << [] {
                                            std::string rows;
                                            for (int i = 0; i < 900; ++i)
                                              rows += fmt::format("{},{}\n", i / 30, i % 30);
                                            return rows;
                                          }();
  EXPECT_EQ(edges_in_csv(folder.at("list.csv")), 901u);
  std::ofstream(folder.at("net.toml")) << "[[population]]\nname = 'a'\nsize = 30\n[[projection]]\nsource = 'a'\ntarget "
                                          "= 'a'\ncsv = 'list.csv'\n";
  EXPECT_EQ(read_network(folder.at("net.toml")).spec.projections[0].connections.count(), 900u);
  EXPECT_THAT(error_of([&] { read_network(folder.at("net.toml"), {.memory_limit = 30000}); }),
              HasSubstr("larger than memory (0.03 MB available): 0.0573 MB: a 30 x 48 B, a_a 901 x 62 B"));
}

// One list of keys: the parser asks for no other (keys.h refuses it), has each of them, and the README says them.
TEST(NetworkFiles, TheReferenceHasTheParsersKeys) {
  const std::string root = RANVIER_SOURCE_DIR;
  const std::string parser =
      text_of(root + "/models/neurons/network_file.cpp") + text_of(root + "/models/neurons/field_file.cpp");
  for (const NetworkKey& key : network_keys())
    EXPECT_THAT(parser, HasSubstr(fmt::format("\"{}\"", key.key))) << key.table;
  EXPECT_NE(text_of(root + "/README.md").find(network_key_reference()), std::string::npos)
      << "README.md has not what `ranvier simulate --keys` prints";
}

TEST(NumberArrays, AreReadByShapeAndRefusedByPlace) {
  const Folder folder;
  const std::string csv = folder.at("a.csv");
  const auto read = [&](const std::string& text) {
    std::ofstream(csv) << text;
    return read_array(csv);
  };
  const NumberArray a = read("x,y\n# note\n1,2\n\n3,-4.5\n");
  EXPECT_EQ(a.values, (std::vector<double>{1, 2, 3, -4.5}));
  EXPECT_EQ(std::pair(a.rows, a.columns), (std::pair<size_t, size_t>(2, 2)));
  EXPECT_THAT(error_of([&] { read("1,2\n3\n"); }), HasSubstr("a.csv:2: 1 values where the first row has 2"));
  EXPECT_THAT(error_of([&] { read("1\nx\n"); }), HasSubstr("a.csv:2"));
  EXPECT_THAT(error_of([&] { read("\n"); }), HasSubstr("no numbers"));
  std::ofstream(folder.at("b.npy")) << "text";
  EXPECT_THAT(error_of([&] { read_array(folder.at("b.npy")); }), HasSubstr("no NPY file"));
}

}  // namespace
}  // namespace ranvier::neuron
