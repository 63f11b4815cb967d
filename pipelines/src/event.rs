//! The event that is posted: an order was paid.

use bytes::Bytes;
use serde::Serialize;

use crate::order::Order;

/// The event's name, sent in the `event-type` header.
pub(crate) const ORDER_PAID: &str = "ORDER_PAID";

/// An order was paid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderPaid {
    pub(crate) order_id: String,
    pub(crate) user_id: String,
    /// Midnight UTC of the day of payment: the data has days alone.
    pub(crate) paid_at: String,
    pub(crate) order_items: Vec<OrderItem>,
}

/// One product of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderItem {
    pub(crate) product_id: String,
    pub(crate) order_quantity: u32,
}

impl OrderPaid {
    /// The event as it is posted.
    pub(crate) fn json(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("strings and numbers have a JSON form")
            .into()
    }
}

impl From<Order> for OrderPaid {
    fn from(order: Order) -> OrderPaid {
        let product_id = product_of(&order.order_id);
        OrderPaid {
            order_id: order.order_id,
            user_id: order.user_id,
            paid_at: format!("{}T00:00:00Z", order.paid_on),
            order_items: vec![OrderItem {
                product_id,
                order_quantity: order.quantity,
            }],
        }
    }
}

/// The data names no products: one of 10,000 is derived from the order's number (FNV-1a), always
/// the same one.
fn product_of(order_id: &str) -> String {
    let hash = order_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("CD-{:04}", hash % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_fields_the_service_expects() {
        let order = Order {
            order_id: "2".to_owned(),
            user_id: "4".to_owned(),
            paid_on: "1997-01-01".to_owned(),
            quantity: 2,
            amount_cents: 2933,
        };
        let json = OrderPaid::from(order).json();
        let event: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
        let product = product_of("2");
        let expected = serde_json::json!({
            "orderId": "2", "userId": "4", "paidAt": "1997-01-01T00:00:00Z",
            "orderItems": [{"productId": product, "orderQuantity": 2}],
        });
        assert_eq!(event, expected);
        assert_ne!(product_of("1"), product_of("2"));
    }
}
