// What a view simulates, and the thread that plays it: paced by the clock, steered by commands, blind to who watches.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "tools/view/controls.h"
#include "tools/view/frames.h"

namespace ranvier::view {

/// A simulation that can be steered. Used by one thread at a time.
class Scene {
 public:
  virtual ~Scene() = default;
  /// Takes a command of its view that the player has no use for itself. Throws Error where it cannot be followed.
  virtual void apply(const Message& command) = 0;
  virtual void restart() = 0;
  virtual void single_step() = 0;
  /// Advances to `time` or, where that is later, until `enough` returns true.
  virtual void advance(double time, const std::function<bool()>& enough) = 0;
  virtual double time() const = 0;  ///< ms
  virtual bool ended() const = 0;
  /// The parts of a frame with all that happened since the frame before; `header` has everything but parts and current.
  virtual Frame frame(FrameHeader header) = 0;
  /// Values of all controls of the view by name, and what to say in words.
  virtual nlohmann::ordered_json state() const = 0;
  virtual double frames_per_second() const = 0;
};

/// Plays one scene.
class Player {
 public:
  using Clock = std::chrono::steady_clock;
  /// What the player tells; called on its thread.
  struct Listener {
    std::function<void(const Frame&)> frame;
    std::function<void(const std::string&)> state;                           ///< a JSON text
    std::function<void(uint64_t client, const std::string& answer)> answer;  ///< to a command, a JSON text
  };

  Player(std::string view, std::unique_ptr<Scene> scene, Listener listener);
  ~Player();
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  /// Ends the thread; nothing is told any more.
  void stop();
  /// Queues a command; false where too many wait already. A later value of the same control replaces an earlier one.
  bool post(uint64_t client, Message command);
  /// How many pages watch: without any the simulation waits.
  void watched_by(int pages);
  /// The last state told.
  std::string state() const;
  /// Queues `read`, which the player's thread calls with the scene between two steps; false where too much waits.
  bool inspect(std::function<void(const Scene&)> read);

 private:
  struct Waiting {
    uint64_t client;
    Message command;
  };
  void loop();
  bool obey(const Waiting& waiting);
  void play_until(Clock::time_point deadline);
  void anchor();
  void tell_frame();
  void tell_state();
  bool plays() const;

  const std::string view_;
  std::unique_ptr<Scene> scene_;
  Listener listener_;

  mutable std::mutex mutex_;  // of what other threads touch: the mailbox, the last state
  std::condition_variable news_;
  std::vector<Waiting> mailbox_;
  std::vector<std::function<void(const Scene&)>> readers_;
  std::string state_;
  int watchers_ = 0;
  std::atomic<bool> stop_ = false, mail_ = false;

  bool running_ = true, unlimited_ = false, restarted_ = false;
  double speed_ = 1, reached_ = 0;
  Clock::time_point anchor_wall_, meter_wall_;
  double anchor_time_ = 0, meter_time_ = 0;
  uint32_t sequence_ = 0, revision_ = 0;
  std::thread thread_;
};

}  // namespace ranvier::view
