// Extendable HDF5 columns of spikes.
#include "models/neurons/sonata_spikes.h"

#include <filesystem>
#include <utility>

#include "engine/error.h"
#include "models/neurons/recorder.h"
#if defined(RANVIER_HAS_HDF5)
#include <hdf5.h>
#endif

namespace ranvier::neuron {

#if defined(RANVIER_HAS_HDF5)
bool has_hdf5() { return true; }

struct SonataSpikes::Sets {
  std::string path, partial;
  hid_t file = -1;
  struct Population {
    hid_t ids = -1, times = -1;
    hsize_t count = 0;
  };
  std::vector<Population> populations;
  hsize_t chunk = 0;

  /// Of a file that was not finished nothing stays.
  ~Sets() {
    try {
      close();
    } catch (const Error&) {
    }
    std::error_code ignored;
    std::filesystem::remove(partial, ignored);
  }

  hid_t check(hid_t id) const {
    if (id < 0) fail("{}: HDF5 cannot write it (is the disk full?)", path);
    return id;
  }

  void write_text(hid_t object, const char* name, std::string_view value) const {
    const hid_t text = H5Tcopy(H5T_C_S1), one = H5Screate(H5S_SCALAR);
    H5Tset_size(text, value.size());
    const hid_t attribute = check(H5Acreate2(object, name, text, one, H5P_DEFAULT, H5P_DEFAULT));
    check(H5Awrite(attribute, text, value.data()));
    H5Aclose(attribute), H5Sclose(one), H5Tclose(text);
  }

  hid_t column(hid_t group, const char* name, hid_t type, const char* units) {
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    const hid_t space = check(H5Screate_simple(1, &none, &unlimited)), layout = check(H5Pcreate(H5P_DATASET_CREATE));
    check(H5Pset_chunk(layout, 1, &chunk));
    const hid_t set = check(H5Dcreate2(group, name, type, space, H5P_DEFAULT, layout, H5P_DEFAULT));
    if (units) write_text(set, "units", units);
    H5Pclose(layout), H5Sclose(space);
    return set;
  }

  void extend(hid_t set, hid_t type, const void* data, hsize_t before, hsize_t count) {
    const hsize_t size = before + count;
    check(H5Dset_extent(set, &size));
    const hid_t space = check(H5Dget_space(set)), memory = check(H5Screate_simple(1, &count, nullptr));
    check(H5Sselect_hyperslab(space, H5S_SELECT_SET, &before, nullptr, &count, nullptr));
    check(H5Dwrite(set, type, memory, space, H5P_DEFAULT, data));
    H5Sclose(memory), H5Sclose(space);
  }

  void close() {
    for (Population& p : populations) H5Dclose(p.ids), H5Dclose(p.times);
    populations.clear();
    if (file >= 0 && H5Fclose(std::exchange(file, -1)) < 0) fail("{}: HDF5 cannot write it (is the disk full?)", path);
  }
};

SonataSpikes::SonataSpikes(std::string path, const std::vector<std::string>& populations,
                           const std::vector<std::pair<std::string, std::string>>& attributes, uint64_t chunk)
    : sets_(std::make_unique<Sets>()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // our own messages name the file
  sets_->path = path, sets_->partial = path + ".partial", sets_->chunk = chunk;
  sets_->file = sets_->check(H5Fcreate(sets_->partial.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  const hid_t all = sets_->check(H5Gcreate2(sets_->file, "/spikes", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  for (const auto& [name, value] : attributes) sets_->write_text(all, name.c_str(), value);
  for (const std::string& name : populations) {
    const hid_t group = sets_->check(H5Gcreate2(all, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    Sets::Population p;
    p.ids = sets_->column(group, "node_ids", H5T_NATIVE_UINT64, nullptr);
    p.times = sets_->column(group, "timestamps", H5T_NATIVE_DOUBLE, "ms");
    sets_->populations.push_back(p);
    H5Gclose(group);
  }
  H5Gclose(all);
}

SonataSpikes::~SonataSpikes() = default;

void SonataSpikes::append(size_t population, const std::vector<uint64_t>& ids, const std::vector<double>& times) {
  if (ids.empty()) return;
  Sets::Population& p = sets_->populations.at(population);
  sets_->extend(p.ids, H5T_NATIVE_UINT64, ids.data(), p.count, ids.size());
  sets_->extend(p.times, H5T_NATIVE_DOUBLE, times.data(), p.count, times.size());
  p.count += ids.size();
}

void SonataSpikes::finish() {
  sets_->close();
  std::error_code error;
  std::filesystem::rename(sets_->partial, sets_->path, error);
  if (error) fail("{}: cannot be put in its place: {}", sets_->path, error.message());
}

#else
bool has_hdf5() { return false; }
struct SonataSpikes::Sets {};
SonataSpikes::SonataSpikes(std::string path, const std::vector<std::string>&,
                           const std::vector<std::pair<std::string, std::string>>&, uint64_t) {
  fail("{}: this build has no HDF5 (libhdf5-dev)", path);
}
SonataSpikes::~SonataSpikes() = default;
void SonataSpikes::append(size_t, const std::vector<uint64_t>&, const std::vector<double>&) {}
void SonataSpikes::finish() {}
#endif

}  // namespace ranvier::neuron
