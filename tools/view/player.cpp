// The thread that plays a scene.
#include "tools/view/scene.h"

namespace ranvier::view {
namespace {

using Json = nlohmann::ordered_json;
using namespace std::chrono_literals;

constexpr size_t mailbox_limit = 1024;
constexpr double infinity = std::numeric_limits<double>::infinity();

double seconds(Player::Clock::duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

Player::Player(std::string view, std::unique_ptr<Scene> scene, Listener listener)
    : view_(std::move(view)), scene_(std::move(scene)), listener_(std::move(listener)) {
  anchor();
  tell_state();
  thread_ = std::thread([this] { loop(); });
}

Player::~Player() { stop(); }

void Player::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Player::post(uint64_t client, Message command) {
  {
    const std::lock_guard lock(mutex_);
    if (mailbox_.size() >= mailbox_limit) return false;
    mailbox_.push_back({client, std::move(command)});
    mail_ = true;
  }
  news_.notify_all();
  return true;
}

void Player::watched_by(int pages) {
  {
    const std::lock_guard lock(mutex_);
    watchers_ = pages;
  }
  news_.notify_all();
}

std::string Player::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

bool Player::inspect(std::function<void(const Scene&)> read) {
  {
    const std::lock_guard lock(mutex_);
    if (readers_.size() >= 64) return false;
    readers_.push_back(std::move(read));
    mail_ = true;
  }
  news_.notify_all();
  return true;
}

bool Player::plays() const { return running_ && !scene_->ended(); }

void Player::anchor() {
  anchor_wall_ = meter_wall_ = Clock::now();
  anchor_time_ = meter_time_ = scene_->time();
}

void Player::loop() {
  const auto frame_time =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / scene_->frames_per_second()));
  auto next_frame = Clock::now();
  bool idle = true;
  while (!stop_) {
    std::vector<Waiting> mail;
    std::vector<std::function<void(const Scene&)>> readers;
    bool watched;
    {
      std::unique_lock lock(mutex_);
      const auto something = [&] { return stop_ || mail_ || (idle && watchers_ > 0 && plays()); };
      if (idle)
        news_.wait(lock, something);
      else
        news_.wait_until(lock, next_frame, something);
      mail.swap(mailbox_), readers.swap(readers_);
      mail_ = false;
      watched = watchers_ > 0;
    }
    if (stop_) return;
    for (const auto& read : readers) read(*scene_);
    if (idle) anchor(), next_frame = Clock::now();  // time that nobody watched is not made up for
    bool changed = false;
    for (const Waiting& waiting : mail) changed = obey(waiting) || changed;
    idle = !watched || !plays();
    if (!idle) play_until(Clock::now() + frame_time);
    tell_state();  // says nothing where nothing changed
    if (changed || !idle) tell_frame();
    const auto now = Clock::now();
    if (now >= next_frame) next_frame = std::max(next_frame + frame_time, now);
  }
}

bool Player::obey(const Waiting& waiting) {
  const Message& m = waiting.command;
  const std::string& name = m.control->name;
  const auto is = [&](const char* what) { return name == view_ + what; };
  Json answer = {{"id", m.id}};
  bool done = true;
  try {
    if (is(".run")) {
      running_ = m.choice == "run";
      if (running_ && scene_->ended()) scene_->restart(), restarted_ = true;
    } else if (is(".pace")) {
      unlimited_ = m.choice == "unlimited";
    } else if (is(".speed")) {
      speed_ = m.number;
    } else if (is(".step")) {
      running_ = false;
      if (!scene_->ended()) scene_->single_step();
    } else {
      const double before = scene_->time();
      is(".restart") ? scene_->restart() : scene_->apply(m);
      restarted_ = restarted_ || is(".restart") || scene_->time() < before;
    }
    anchor();
    answer["revision"] = ++revision_;
  } catch (const std::exception& error) {
    answer["error"] = error.what();
    done = false;
  }
  listener_.answer(waiting.client, answer.dump());
  return done;
}

/// Plays up to where the clock is, at most until `deadline`, and leaves early when a command comes.
void Player::play_until(Clock::time_point deadline) {
  const auto now = Clock::now();
  const double target = unlimited_ ? infinity : anchor_time_ + 1e3 * speed_ * seconds(now - anchor_wall_);
  scene_->advance(target, [&] { return mail_ || stop_ || Clock::now() >= deadline; });
  if (!unlimited_ && scene_->time() + 1e3 * speed_ * 0.1 < target) {  // too slow: what is lost is lost, not piled up
    anchor_wall_ = Clock::now(), anchor_time_ = scene_->time();
  }
  const double passed = seconds(Clock::now() - meter_wall_);
  if (passed > 0.25) {
    reached_ = 1e-3 * (scene_->time() - meter_time_) / passed;
    meter_wall_ = Clock::now(), meter_time_ = scene_->time();
  }
}

void Player::tell_frame() {
  FrameHeader header{};
  header.sequence = ++sequence_, header.revision = revision_;
  header.time = scene_->time(), header.speed = reached_;
  header.flags =
      (plays() ? frame_running : 0u) | (scene_->ended() ? frame_ended : 0u) | (restarted_ ? frame_restarted : 0u);
  restarted_ = false;
  listener_.frame(scene_->frame(header));
}

void Player::tell_state() {
  Json state = {{"view", view_}, {"state", scene_->ended() ? "ended" : running_ ? "running" : "paused"}};
  state["revision"] = revision_;
  Json scene = scene_->state();
  scene["values"][view_ + ".run"] = running_ ? "run" : "pause";
  scene["values"][view_ + ".pace"] = unlimited_ ? "unlimited" : "speed";
  scene["values"][view_ + ".speed"] = speed_;
  state.update(scene);
  std::string text = state.dump();
  {
    const std::lock_guard lock(mutex_);
    if (text == state_) return;
    state_ = text;
  }
  listener_.state(text);
}

}  // namespace ranvier::view
