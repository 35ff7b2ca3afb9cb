//! What is traded: new orders, and what becomes of open ones, as they follow from a seed.

use std::collections::VecDeque;

use crate::database::Value;

pub const BROKERS: [&str; 8] =
    ["Aldgate", "Bourse", "Corvin", "Dorado", "Eastgate", "Fenwick", "Grauer", "Halden"];
const SYMBOLS: [&str; 10] =
    ["AAPL", "AMZN", "BTC-USD", "ETH-USD", "EUR/USD", "GOOG", "META", "MSFT", "NVDA", "SIE.DE"];
/// Orders remembered as open; older ones stay as they are, like a limit order that nobody meets.
pub const OPEN_ORDERS: usize = 10_000;

/// An order that is not yet complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub trade_id: u128,
    pub seq: i64,
    pub quantity: i64,
    pub filled: i64,
}

/// A new trade, but for its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trade {
    pub trade_id: u128,
    pub seq: i64,
    pub broker_id: i64,
    pub symbol: &'static str,
    pub side: &'static str,
    pub quantity: i64,
    /// In millionths.
    pub price: i64,
}

impl Trade {
    /// The row of table trades. The one place where a row takes its final form: whoever signs rows signs
    /// here, over these values, and appends the signature as one more column.
    pub fn row(&self, time_ns: i64) -> [Value<'static>; 11] {
        [
            Value::Uuid(self.trade_id),
            Value::Integer(self.seq),
            Value::Integer(self.broker_id),
            Value::Text(self.symbol),
            Value::Text(self.side),
            Value::Integer(self.quantity),
            Value::Integer(0),
            Value::Millionths(self.price),
            Value::Text("NEW"),
            Value::TimestampNs(time_ns),
            Value::TimestampNs(time_ns),
        ]
    }
}

/// What happens to an order: its state afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    pub order: Order,
    pub status: &'static str,
}

impl Move {
    /// The row of table moves.
    pub fn row(&self, time_ns: i64) -> [Value<'static>; 5] {
        [
            Value::Integer(self.order.seq),
            Value::Uuid(self.order.trade_id),
            Value::Text(self.status),
            Value::Integer(self.order.filled),
            Value::TimestampNs(time_ns),
        ]
    }
}

pub struct Market {
    random: SplitMix,
    open: VecDeque<Order>,
}

impl Market {
    /// A market that goes on with these open orders.
    pub fn new(seed: u64, open: impl IntoIterator<Item = Order>) -> Self {
        Self { random: SplitMix(seed), open: open.into_iter().collect() }
    }

    /// A new trade for each of these numbers.
    pub fn trades(&mut self, numbers: impl IntoIterator<Item = i64>) -> Vec<Trade> {
        numbers.into_iter().map(|seq| self.trade(seq)).collect()
    }

    fn trade(&mut self, seq: i64) -> Trade {
        let random = &mut self.random;
        Trade {
            trade_id: random.uuid(),
            seq,
            broker_id: random.below(BROKERS.len() as u64) as i64 + 1,
            symbol: SYMBOLS[random.below(SYMBOLS.len() as u64) as usize],
            side: if random.below(2) == 0 { "BUY" } else { "SELL" },
            quantity: random.below(9_999) as i64 + 1,
            price: random.below(100_000_000_000) as i64 + 10_000,
        }
    }

    /// Takes up to `count` open orders and fills them in full or in part, or cancels them.
    pub fn moves(&mut self, count: u64) -> Vec<Move> {
        let count = (self.open.len() as u64).min(count);
        (0..count).filter_map(|_| self.next_move()).collect()
    }

    fn next_move(&mut self) -> Option<Move> {
        let distance = self.random.below(8) as usize % self.open.len().max(1);
        self.open.rotate_left(distance);
        let mut order = self.open.pop_front()?;
        let part = self.random.below((order.quantity - order.filled) as u64) as i64;
        let status = match self.random.below(10) {
            0 => "CANCELLED",
            1..=4 if part > 0 => {
                order.filled += part;
                "PARTIAL"
            }
            _ => {
                order.filled = order.quantity;
                "FILLED"
            }
        };
        Some(Move { order, status })
    }

    /// What was committed is known from now on.
    pub fn committed(&mut self, trades: &[Trade], moves: Vec<Move>) {
        let partial = moves.into_iter().filter(|moved| moved.status == "PARTIAL").map(|moved| moved.order);
        self.open.extend(partial);
        self.open.extend(trades.iter().map(|trade| Order {
            trade_id: trade.trade_id,
            seq: trade.seq,
            quantity: trade.quantity,
            filled: 0,
        }));
        self.open.drain(..self.open.len().saturating_sub(OPEN_ORDERS));
    }
}

/// Sebastiano Vigna's SplitMix64: small, seeded, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1; the bias is below 2^-26 for the bounds used here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A UUID of version 4, RFC 9562.
    fn uuid(&mut self) -> u128 {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        bits & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_trades_the_same() {
        let mut one = Market::new(7, []);
        let mut two = Market::new(7, []);
        let trades = one.trades(1..=200);
        assert_eq!(trades, two.trades(1..=200));
        one.committed(&trades, Vec::new());
        two.committed(&trades, Vec::new());
        assert_eq!(one.moves(100), two.moves(100));
        assert_ne!(trades, Market::new(8, []).trades(1..=200));
    }

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        for trade in Market::new(1, []).trades(1..=1000) {
            assert_eq!(trade.trade_id >> 76 & 0xf, 4);
            assert_eq!(trade.trade_id >> 62 & 0b11, 0b10);
        }
    }

    #[test]
    fn an_order_moves_until_it_is_complete_and_then_no_more() {
        let mut market = Market::new(3, []);
        let trades = market.trades(1..=100);
        market.committed(&trades, Vec::new());
        let mut complete = 0;
        loop {
            let moves = market.moves(10);
            if moves.is_empty() {
                break;
            }
            for moved in &moves {
                match moved.status {
                    "PARTIAL" => assert!((1..moved.order.quantity).contains(&moved.order.filled)),
                    "FILLED" => assert_eq!(moved.order.filled, moved.order.quantity),
                    _ => assert!(moved.order.filled < moved.order.quantity),
                }
            }
            complete += moves.iter().filter(|moved| moved.status != "PARTIAL").count();
            market.committed(&[], moves);
        }
        assert_eq!(complete, 100);
    }

    #[test]
    fn open_orders_have_a_bound() {
        let mut market = Market::new(3, []);
        let trades = market.trades(1..=OPEN_ORDERS as i64 + 5);
        market.committed(&trades, Vec::new());
        assert_eq!(market.open.len(), OPEN_ORDERS);
        assert_eq!(market.open[0].trade_id, trades[5].trade_id);
    }
}
