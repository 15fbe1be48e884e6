// Traces and spikes on disk: CSV and NPY, out and in.
#pragma once
#include <string>
#include <vector>

#include "engine/neuron.h"

namespace ranvier::neuron {

// A trace is (N, 3): t in ms, v in mV, u. The CSV has the columns t_ms, v_mv, u in shortest round-trip digits; the NPY
// is f64 in C order. Files are whole or absent. Errors name the file.

void write_trace_csv(const std::string& path, const Trace&);
void write_trace_npy(const std::string& path, const Trace&);
/// Columns neuron, time_ms.
void write_spikes_csv(const std::string& path, const std::vector<double>& spikes, int64_t neuron = 0);

/// By ending: .npy, else CSV with one line of names and three or more columns of which the first three count.
Trace read_trace(const std::string& path);

/// Numbers of one or two axes, row by row.
struct NumberArray {
  size_t rows = 0, columns = 1;
  std::vector<double> values;
};
/// By ending: .npy (f8, f4, i8 or i4 in C order), else CSV: a row a line, blank lines and those that begin with # left
/// out, and a first line without numbers taken for names. Throws Error naming file and line.
NumberArray read_array(const std::string& path);

}  // namespace ranvier::neuron
